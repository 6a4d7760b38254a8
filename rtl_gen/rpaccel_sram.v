// Behavioural model of the SRAM macro that every large RAM of the design is an instance of.
//
// One write port with a lane mask and one read port. The read is registered: r_data changes one
// edge after r_en, and holds while r_en is low. A read of the word being written returns the old
// word. The contents start at zero, as those of the small RAMs do, so that both kinds are equal.
module rpaccel_sram #(
    parameter WIDTH = 128,        // bits a word
    parameter DEPTH = 1024,       // words
    parameter GRANULARITY = WIDTH,  // bits a write lane; divides WIDTH
    parameter ADDR_WIDTH = $clog2(DEPTH)
) (
    input  wire                           clk,
    input  wire [WIDTH/GRANULARITY-1:0]   w_en,
    input  wire [ADDR_WIDTH-1:0]          w_addr,
    input  wire [WIDTH-1:0]               w_data,
    input  wire                           r_en,
    input  wire [ADDR_WIDTH-1:0]          r_addr,
    output reg  [WIDTH-1:0]               r_data
);
    reg [WIDTH-1:0] mem [0:DEPTH-1];

    integer i;
    initial begin
        for (i = 0; i < DEPTH; i = i + 1) mem[i] = {WIDTH{1'b0}};
        r_data = {WIDTH{1'b0}};
    end

    // Blocking writes after the read give old data, and are cheap to simulate; nothing else
    // looks at mem.
    generate
        if (GRANULARITY == WIDTH) begin : g_word
            always @(posedge clk) begin
                if (r_en) r_data <= mem[r_addr];
                if (w_en[0]) mem[w_addr] = w_data;
            end
        end else begin : g_lanes
            wire [WIDTH-1:0] mask;
            genvar lane;
            for (lane = 0; lane < WIDTH / GRANULARITY; lane = lane + 1) begin : g_mask
                assign mask[lane*GRANULARITY +: GRANULARITY] = {GRANULARITY{w_en[lane]}};
            end
            always @(posedge clk) begin
                if (r_en) r_data <= mem[r_addr];
                if (|w_en) mem[w_addr] = (mem[w_addr] & ~mask) | (w_data & mask);
            end
        end
    endgenerate
endmodule
