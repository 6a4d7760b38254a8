// A single-data-rate SDRAM of 16-bit words and four banks that watches its controller.
//
// Times are in picoseconds of `now`, which advances by PERIOD_PS with each clock: a part that is
// as slow as JEDEC's PC100 grade, times of the data sheets that are slowest. What breaks a rule ends
// the simulation with an error that names it. Commands are taken at the rising edge of clk; data
// come CAS latency clocks later, and only in the clock in which they must be taken; else x.
module sdram #(
    parameter ROW_BITS = 13,
    parameter COLUMN_BITS = 9,
    parameter integer PERIOD_PS = 40000,
    parameter integer T_RCD = 20000,
    parameter integer T_RP = 20000,
    parameter integer T_RAS = 50000,
    parameter integer T_RAS_MAX = 100000000,
    parameter integer T_RC = 70000,
    parameter integer T_RFC = 80000,
    parameter integer T_WR = 20000,
    parameter integer T_RRD = 15000,
    parameter integer T_AC = 6000,
    parameter integer T_POWER_UP = 200000000,
    parameter integer T_REFRESH = 64000000  // nanoseconds, for REFRESHES of them
) (
    input  wire        clk,
    input  wire [2:0]  command,   // RAS, CAS, WE, active high
    input  wire [1:0]  bank,
    input  wire [ROW_BITS-1:0] address,
    input  wire [1:0]  mask,
    input  wire [15:0] data,
    input  wire        drive,
    output reg  [15:0] read
);
    localparam REFRESHES = 8192;
    localparam TEN = 10;
    reg [15:0] mem [0:(1 << (ROW_BITS + COLUMN_BITS + 2)) - 1];
    reg [63:0] now = 0;
    reg [63:0] activated [0:3];
    reg [63:0] precharged [0:3];
    reg [63:0] written [0:3];
    reg [63:0] activated_last = 0;
    reg [63:0] refreshed = 0;
    reg [63:0] mode_set = 0;
    reg [3:0]  open = 0;
    reg [3:0]  closed = 0;        // precharged at least once
    reg [ROW_BITS-1:0] row [0:3];
    reg        mode = 0;
    reg [2:0]  latency = 0;
    integer    refresh_count = 0;
    reg [63:0] refreshes = 0;     // since the mode was set
    reg [2:0]  pending = 0;       // reads by the clocks since
    reg [15:0] piped [0:2];
    wire [ROW_BITS+COLUMN_BITS+1:0] place = {row[bank], bank, address[COLUMN_BITS-1:0]};

    integer i;
    initial begin
        for (i = 0; i < 4; i = i + 1) begin
            activated[i] = 0;
            precharged[i] = 0;
            written[i] = 0;
            row[i] = 0;
        end
        for (i = 0; i < 3; i = i + 1) piped[i] = 16'hdead;
        read = 16'hdead;
    end

    // Data sheets allow eight refreshes to be put off, so the ninth ends it.
    localparam [63:0] INTERVAL = 64'd1000 * T_REFRESH / REFRESHES;

    task fail(input [8*40-1:0] rule);
        begin
            $display("%%Error: SDRAM at %0d ps: %0s", now, rule);
            $fatal(1);
        end
    endtask

    task idle;  // all banks are closed and nothing forbids a command to all
        begin
            if (open != 0) fail("a bank is open");
            for (i = 0; i < 4; i = i + 1)
                if (now - precharged[i] < T_RP) fail("tRP");
        end
    endtask

    always @(posedge clk) begin
        now <= now + PERIOD_PS;
        pending <= {pending[1:0], 1'b0};
        piped[1] <= piped[0];
        piped[2] <= piped[1];
        // Data for a controller that takes them before the next edge of ours.
        if (latency == 2 && pending[0]) read <= piped[0];
        else if (latency == 3 && pending[1]) read <= piped[1];
        else read <= 16'hdead;
        if (drive && (pending[0] || pending[1])) fail("both drive the data pins");
        if (drive && command != 3'b011) fail("data without a write");
        if (command != 0 && now - mode_set < 2 * PERIOD_PS && mode) fail("tMRD");
        // Data come T_AC after the edge that launches them, and are taken half a clock after it.
        if (PERIOD_PS / 2 <= T_AC) fail("tAC");
        if (mode && now - refreshed > 9 * INTERVAL) fail("refresh is late");
        if (mode && now - mode_set > (refreshes + 9) * INTERVAL) fail("too few refreshes");
        for (i = 0; i < 4; i = i + 1)
            if (open[i] && now - activated[i] > T_RAS_MAX) fail("tRAS, too long");
        case (command)
            3'b000: ;
            3'b100: begin  // activate
                if (!mode) fail("activate before initialisation");
                if (open[bank]) fail("activate of an open bank");
                if (now - precharged[bank] < T_RP) fail("tRP");
                if (activated[bank] != 0 && now - activated[bank] < T_RC) fail("tRC");
                if (activated_last != 0 && now - activated_last < T_RRD) fail("tRRD");
                if (now - refreshed < T_RFC) fail("tRFC");
                open[bank] <= 1;
                row[bank] <= address;
                activated[bank] <= now;
                activated_last <= now;
            end
            3'b010, 3'b011: begin  // read, write
                if (!open[bank]) fail("access to a closed bank");
                if (now - activated[bank] < T_RCD) fail("tRCD");
                if (address[TEN]) fail("auto precharge is not modelled");
                if (command[0]) begin
                    if (!drive) fail("a write without data");
                    if (!mask[0]) mem[place][7:0] = data[7:0];
                    if (!mask[1]) mem[place][15:8] = data[15:8];
                    written[bank] <= now;
                end else begin
                    if (mask != 0) fail("a masked read");
                    piped[0] <= mem[place];
                    pending[0] <= 1;
                end
            end
            3'b101: begin  // precharge
                if (now < T_POWER_UP) fail("a command before power-up is over");
                for (i = 0; i < 4; i = i + 1)
                    if (address[TEN] || bank == i[1:0]) begin
                        if (open[i] && now - activated[i] < T_RAS) fail("tRAS");
                        if (written[i] != 0 && now - written[i] < T_WR) fail("tWR");
                        open[i] <= 0;
                        closed[i] <= 1;
                        precharged[i] <= now;
                    end
            end
            3'b110: begin  // refresh
                if (closed != 4'hf) fail("refresh before precharge");
                idle;
                if (refreshed != 0 && now - refreshed < T_RFC) fail("tRFC");
                refreshed <= now;
                refresh_count <= refresh_count + 1;
                refreshes <= refreshes + mode;
            end
            3'b111: begin  // mode register
                if (refresh_count < 8) fail("mode before eight refreshes");
                idle;
                if (now - refreshed < T_RFC) fail("tRFC");
                if (address[2:0] != 0) fail("only bursts of one word are modelled");
                if (address[6:4] != 2 && address[6:4] != 3) fail("CAS latency");
                latency <= address[6:4];
                mode <= 1;
                mode_set <= now;
            end
            default: fail("no such command");
        endcase
    end
endmodule
