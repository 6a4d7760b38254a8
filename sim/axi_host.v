// Behavioural host memory behind a link, an AXI4 slave compiled with the design.
//
// Bursts are answered in order of their addresses, whatever their ID. Timing comes from plusargs:
//
//   +host_latency=N   cycles from the edge that accepts a read address to its first beat, and from
//                     that which takes the last beat of a write to its response, >= 1
//   +host_gap_num=N   with
//   +host_gap_den=N   at most one beat in N/N cycles on average, in each direction
//   +host_stall=P     percent of cycles with a random pause, of each of the five channels
//   +host_seed=N      of the pauses
//
// A burst that leaves the memory or is not INCR of whole words answers DECERR or SLVERR: its reads
// bring the byte EE and its writes change nothing. The host's program reaches ``mem`` directly,
// without time passing; word w is bytes w * DATA_BYTES and so on. A write is in ``mem`` when its
// last beat was taken.
/* verilator lint_off DECLFILENAME */
/* verilator lint_off BLKSEQ */
/* verilator lint_off WIDTH */
module axi_host #(
    parameter DATA_BYTES = 16,
    parameter ADDR_BITS = 64,
    parameter ID_BITS = 1,
    parameter SIZE_BYTES = 65536,
    parameter DEPTH = 1024      // bursts accepted and not yet answered, each way; a power of two
) (
    input  wire                    clk,
    input  wire                    rst,       // synchronous, active high
    input  wire [ID_BITS-1:0]      awid,
    input  wire [ADDR_BITS-1:0]    awaddr,
    input  wire [7:0]              awlen,
    input  wire [2:0]              awsize,
    input  wire [1:0]              awburst,
    input  wire                    awvalid,
    output reg                     awready,
    input  wire [8*DATA_BYTES-1:0] wdata,
    input  wire [DATA_BYTES-1:0]   wstrb,
    input  wire                    wlast,
    input  wire                    wvalid,
    output reg                     wready,
    output reg  [ID_BITS-1:0]      bid,
    output reg  [1:0]              bresp,
    output reg                     bvalid,
    input  wire                    bready,
    input  wire [ID_BITS-1:0]      arid,
    input  wire [ADDR_BITS-1:0]    araddr,
    input  wire [7:0]              arlen,
    input  wire [2:0]              arsize,
    input  wire [1:0]              arburst,
    input  wire                    arvalid,
    output reg                     arready,
    output reg  [ID_BITS-1:0]      rid,
    output reg  [8*DATA_BYTES-1:0] rdata,
    output reg  [1:0]              rresp,
    output reg                     rlast,
    output reg                     rvalid,
    input  wire                    rready
);
    localparam OKAY = 2'b00, SLVERR = 2'b10, DECERR = 2'b11, INCR = 2'b01;
    localparam WORDS = SIZE_BYTES / DATA_BYTES;
    localparam LOG2 = $clog2(DATA_BYTES);
    localparam SLOT_BITS = $clog2(DEPTH);

    reg [8*DATA_BYTES-1:0] mem [0:WORDS-1];

    integer latency, gap_num, gap_den, stall, seed, at;
    integer unused;                           // what plusargs return
    reg [31:0] random;

    initial begin
        for (at = 0; at < WORDS; at = at + 1) mem[at] = 0;
        latency = 1;
        gap_num = 1;
        gap_den = 1;
        stall = 0;
        seed = 1;
        unused = $value$plusargs("host_latency=%d", latency);
        unused = $value$plusargs("host_gap_num=%d", gap_num);
        unused = $value$plusargs("host_gap_den=%d", gap_den);
        unused = $value$plusargs("host_stall=%d", stall);
        unused = $value$plusargs("host_seed=%d", seed);
        if (latency < 1 || gap_den < 1 || gap_num < gap_den || stall < 0 || stall > 99)
            $fatal(1, "latency %0d, gap %0d/%0d or stall %0d of the host is impossible",
                   latency, gap_num, gap_den, stall);
        // Any seed must give a state other than zero, and near seeds different sequences.
        random = (seed * 32'h9E3779B1) ^ 32'h5DEECE6D;
        if (random == 0) random = 32'd1;
    end

    // Read bursts, and write bursts whose data or response is to come: rings.
    reg [ID_BITS-1:0]   read_id [0:DEPTH-1];
    reg [ADDR_BITS-1:0] read_word [0:DEPTH-1];
    reg [7:0]           read_len [0:DEPTH-1];
    reg [1:0]           read_resp [0:DEPTH-1];
    reg [63:0]          read_due [0:DEPTH-1];
    reg [SLOT_BITS:0]   read_head, read_tail, read_filled;
    reg [7:0]           read_beat;

    reg [ID_BITS-1:0]   write_id [0:DEPTH-1];
    reg [ADDR_BITS-1:0] write_word [0:DEPTH-1];
    reg [7:0]           write_len [0:DEPTH-1];
    reg [1:0]           write_resp [0:DEPTH-1];
    reg [63:0]          write_due [0:DEPTH-1];
    reg [SLOT_BITS:0]   write_head, write_data, write_tail, write_filled;
    reg [7:0]           write_beat;
    reg [SLOT_BITS-1:0] slot;

    reg [63:0]          cycle;
    integer             read_credit, write_credit, lane;
    reg [ADDR_BITS-1:0] word;

    // xorshift32
    task step_random;
        begin
            random = random ^ (random << 13);
            random = random ^ (random >> 17);
            random = random ^ (random << 5);
        end
    endtask

    function paused(input [5:0] value);       // of a pause in 100, by 64ths
        paused = value * 100 < stall * 64;
    endfunction

    function [1:0] response(
        input [ADDR_BITS-1:0] address, input [7:0] len, input [2:0] size, input [1:0] burst
    );
        begin
            response = OKAY;
            if (burst != INCR || size != LOG2 || (address & (DATA_BYTES - 1)) != 0)
                response = SLVERR;
            if ((address >> LOG2) + len >= WORDS) response = DECERR;
        end
    endfunction

    task accept_read;
        begin
            slot = read_tail[SLOT_BITS-1:0];
            read_id[slot] = arid;
            read_word[slot] = araddr >> LOG2;
            read_len[slot] = arlen;
            read_resp[slot] = response(araddr, arlen, arsize, arburst);
            read_due[slot] = cycle + latency - 1;
            read_tail = read_tail + 1'b1;
        end
    endtask

    task send_read;
        begin
            slot = read_head[SLOT_BITS-1:0];
            rvalid <= 1'b1;
            rid <= read_id[slot];
            rresp <= read_resp[slot];
            rlast <= read_beat == read_len[slot];
            word = read_word[slot] + read_beat;
            if (read_resp[slot] == OKAY) rdata <= mem[word];
            read_credit = read_credit - gap_num;
            read_beat = read_beat + 1'b1;
            if (read_beat > read_len[slot] || read_beat == 0) begin
                read_beat = 0;
                read_head = read_head + 1'b1;
            end
        end
    endtask

    task accept_write;
        begin
            slot = write_tail[SLOT_BITS-1:0];
            write_id[slot] = awid;
            write_word[slot] = awaddr >> LOG2;
            write_len[slot] = awlen;
            write_resp[slot] = response(awaddr, awlen, awsize, awburst);
            write_tail = write_tail + 1'b1;
        end
    endtask

    // Data may come before their address was accepted only in other masters than ours: data wait.
    task take_write;
        begin
            slot = write_data[SLOT_BITS-1:0];
            if (wlast != (write_beat == write_len[slot]))
                $fatal(1, "a write burst has another length than its address says");
            word = write_word[slot] + write_beat;
            if (write_resp[slot] == OKAY)
                for (lane = 0; lane < DATA_BYTES; lane = lane + 1)
                    if (wstrb[lane]) mem[word][8*lane +: 8] = wdata[8*lane +: 8];
            write_credit = write_credit - gap_num;
            write_beat = write_beat + 1'b1;
            if (wlast) begin
                write_beat = 0;
                write_due[slot] = cycle + latency - 1;
                write_data = write_data + 1'b1;
            end
        end
    endtask

    always @(posedge clk) begin
        if (rst) begin
            arready <= 1'b0;
            awready <= 1'b0;
            wready <= 1'b0;
            rvalid <= 1'b0;
            bvalid <= 1'b0;
            read_head = 0;
            read_tail = 0;
            read_beat = 0;
            write_head = 0;
            write_data = 0;
            write_tail = 0;
            write_beat = 0;
            read_credit = gap_num;
            write_credit = gap_num;
            cycle = 0;
        end else begin
            if (stall != 0) step_random;
            if (arvalid && arready) accept_read;
            if (awvalid && awready) accept_write;
            if (wvalid && wready) take_write;

            read_credit = read_credit + gap_den;
            if (read_credit > gap_num + gap_den - 1) read_credit = gap_num + gap_den - 1;
            if (!rvalid || rready) begin
                rvalid <= 1'b0;
                rdata <= {DATA_BYTES{8'hEE}};
                read_filled = read_tail - read_head;
                if (read_filled != 0 && read_due[read_head[SLOT_BITS-1:0]] <= cycle
                    && read_credit >= gap_num && !(stall != 0 && paused(random[5:0])))
                    send_read;
            end

            if (!bvalid || bready) begin
                slot = write_head[SLOT_BITS-1:0];
                bvalid <= 1'b0;
                if (write_head != write_data && write_due[slot] <= cycle
                    && !(stall != 0 && paused(random[11:6]))) begin
                    bvalid <= 1'b1;
                    bid <= write_id[slot];
                    bresp <= write_resp[slot];
                    write_head = write_head + 1'b1;
                end
            end

            read_filled = read_tail - read_head;
            write_filled = write_tail - write_head;
            arready <= read_filled < DEPTH && !(stall != 0 && paused(random[17:12]));
            awready <= write_filled < DEPTH && !(stall != 0 && paused(random[23:18]));
            write_credit = write_credit + gap_den;
            if (write_credit > gap_num + gap_den - 1) write_credit = gap_num + gap_den - 1;
            // Ready promises that a beat is taken, so its credit must be there now.
            wready <= write_data != write_tail && write_credit >= gap_num
                      && !(stall != 0 && paused(random[29:24]));
            cycle = cycle + 1;
        end
    end
endmodule
