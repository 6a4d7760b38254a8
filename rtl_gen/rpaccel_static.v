// Behavioural model of the static region: SRAM macros of which each belongs to one lane.
//
// In silicon a macro takes the address of the lane that names it, and a lane the word of the macro
// it named, a crossbar of MACROS x LANES. Which lane that is follows from the image alone: no two
// lanes have rows in one macro. Here all macros are one array, and a lane that reads a macro which
// another lane has read since it was written ends the simulation.
//
// One write port, one read port a lane; r_data of a lane changes one edge after its r_en, and holds.
module rpaccel_static #(
    parameter WIDTH = 128,        // bits a word
    parameter MACROS = 4,
    parameter MACRO_WORDS = 64,
    parameter LANES = 2,
    parameter ADDR_WIDTH = $clog2(MACROS * MACRO_WORDS)
) (
    input  wire                        clk,
    input  wire                        w_en,
    input  wire [ADDR_WIDTH-1:0]       w_addr,
    input  wire [WIDTH-1:0]            w_data,
    input  wire [LANES-1:0]            r_en,
    input  wire [LANES*ADDR_WIDTH-1:0] r_addr,
    output wire [LANES*WIDTH-1:0]      r_data
);
    reg [WIDTH-1:0] mem [0:MACROS*MACRO_WORDS-1];

    integer i;
    initial for (i = 0; i < MACROS * MACRO_WORDS; i = i + 1) mem[i] = {WIDTH{1'b0}};

    always @(posedge clk) if (w_en) mem[w_addr] <= w_data;

    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : g_lane
            reg [WIDTH-1:0] data;
            initial data = {WIDTH{1'b0}};
            always @(posedge clk) if (r_en[lane]) data <= mem[r_addr[lane*ADDR_WIDTH +: ADDR_WIDTH]];
            assign r_data[lane*WIDTH +: WIDTH] = data;
        end
    endgenerate

`ifndef SYNTHESIS
    /* verilator lint_off BLKSEQ */
    /* verilator lint_off WIDTH */
    integer owner [0:MACROS-1];  // lane, or -1
    integer l, macro;
    initial for (i = 0; i < MACROS; i = i + 1) owner[i] = -1;
    always @(posedge clk) begin
        if (|r_en)
            for (l = 0; l < LANES; l = l + 1)
                if (r_en[l]) begin
                    macro = r_addr[l*ADDR_WIDTH +: ADDR_WIDTH] / MACRO_WORDS;
                    if (owner[macro] >= 0 && owner[macro] != l)
                        $fatal(1, "lanes %0d and %0d read static macro %0d", owner[macro], l, macro);
                    owner[macro] = l;
                end
        if (w_en) owner[w_addr / MACRO_WORDS] = -1;
    end
    /* verilator lint_on WIDTH */
    /* verilator lint_on BLKSEQ */
`endif
endmodule
