// Behavioural AXI4 memory, read channels only, compiled with the design so that long runs are fast.
//
// Bursts are answered whole (beats of two bursts never interleave), bursts of one ID in order.
// Timing comes from plusargs, so one build serves many runs; parameters are their defaults. With
// NAME = "mem0":
//
//   +mem0_image=FILE       binary contents from address 0 on; zeros without it and after it
//   +mem0_latency=N        cycles from the edge that accepts an address to the first beat, >= 1
//   +mem0_gap_num=N        with
//   +mem0_gap_den=N        at most one beat in N/N cycles on average
//   +mem0_stall=P          percent of cycles with a random pause, each of address and data channel
//   +mem0_reorder=B        1: bursts of different IDs in random order, or with banks or a second tier
//                          when their data are there
//   +mem0_seed=N           of the random decisions
//   +mem0_error_first=HEX  with
//   +mem0_error_last=HEX   beats touching these byte addresses (inclusive) answer SLVERR
//
// That is the latency/bandwidth model. With banks, a burst waits for its bank, and its data come
// T_CAS after the column command; LATENCY is added for the controller:
//
//   +mem0_banks=N          banks, 0: none of this; address = {row, bank, byte of the row}
//   +mem0_row_bytes=N      bytes of a row, of which each bank has one open after its first access
//   +mem0_t_rcd=N          cycles from activating a row to the column command
//   +mem0_t_rp=N           cycles for closing another row before that
//   +mem0_t_cas=N          cycles from the column command to data
//   +mem0_t_rc=N           cycles from one activation of a bank to the next, at least
//
// A bank takes bursts in the order in which they come, a column command for as many cycles as the
// burst has beats. There is no refresh, and no limit over several banks but the data bus.
// A second, slow tier (an SSD) may lie behind it. A burst in it waits for the bursts there before it
// to be transferred, then for its own, then SSD_LATENCY, then LATENCY, and needs no bank:
//
//   +mem0_ssd_first=HEX    byte address from which on the tier is; without it there is none
//   +mem0_ssd_latency=N    cycles
//   +mem0_ssd_num=N        with
//   +mem0_ssd_den=N        N/N cycles a byte
//
// Tables of generated rows (docs/numerics.md) are in no image:
//
//   +mem0_tables=FILE      their number, then for each first line, lines, key, rows, elements of a
//                          row, log2 of the rows of a line, and lines of a row; decimal
//
// Line numbers are those of all channels, of LINE_BYTES dealt out in turn, this one being CHANNEL.
// A beat from SIZE_BYTES on, and in no such table, answers DECERR; a burst that is not INCR answers SLVERR. Such beats
// carry the byte EE, never memory contents. A master that breaks the protocol (withdraws or changes
// a waiting address, crosses a 4 KB boundary, asks for beats wider than the bus) ends the simulation.
/* verilator lint_off DECLFILENAME */
/* verilator lint_off BLKSEQ */
/* verilator lint_off WIDTH */
module axi_memory #(
    parameter DATA_BYTES = 16,
    parameter ADDR_BITS = 32,
    parameter ID_BITS = 8,
    parameter SIZE_BYTES = 65536,
    parameter DEPTH = 256,      // bursts accepted and not yet answered; a power of two
    parameter WINDOW = 16,      // how far the oldest burst may be overtaken
    parameter NAME = "mem",
    parameter LINE_BYTES = 64,
    parameter CHANNELS = 1,
    parameter CHANNEL = 0,
    parameter LATENCY = 1,
    parameter GAP_NUM = 1,
    parameter GAP_DEN = 1,
    parameter STALL_PERCENT = 0,
    parameter REORDER = 0,
    parameter SEED = 1
) (
    input  wire                    clk,
    input  wire                    rst,       // synchronous, active high
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
    input  wire                    rready,
    output reg  [31:0]             bursts,    // addresses accepted since reset
    output reg  [31:0]             beats      // data beats taken since reset
);
    localparam OKAY = 2'b00, SLVERR = 2'b10, DECERR = 2'b11, INCR = 2'b01;
    localparam LANE_BITS = $clog2(DATA_BYTES);
    localparam SLOT_BITS = $clog2(DEPTH);
    localparam MAX_BANKS = 256;
    localparam MAX_TABLES = 256;
    localparam [63:0] NEVER = 64'hFFFFFFFFFFFFFFFF;

    reg [7:0] mem [0:SIZE_BYTES-1];

    integer latency, gap_num, gap_den, stall, reorder, seed, file, at;
    integer banks, row_bytes, t_rcd, t_rp, t_cas, t_rc, ssd_latency, ssd_num, ssd_den;
    reg [63:0] ssd_first;
    reg by_due;                               // bursts are answered when their data are there
    integer unused;                           // what plusargs and $fread return
    reg [63:0] error_first, error_last;
    reg [8*1024-1:0] path;

    initial begin
        for (at = 0; at < SIZE_BYTES; at = at + 1) mem[at] = 8'd0;
        if ($value$plusargs({NAME, "_image=%s"}, path)) begin
            file = $fopen(path, "rb");
            if (file == 0) $fatal(1, "cannot open the memory image %0s", path);
            unused = $fread(mem, file);
            $fclose(file);
        end
        latency = LATENCY;
        gap_num = GAP_NUM;
        gap_den = GAP_DEN;
        stall = STALL_PERCENT;
        reorder = REORDER;
        seed = SEED;
        error_first = 64'd1;
        error_last = 64'd0;
        unused = $value$plusargs({NAME, "_latency=%d"}, latency);
        unused = $value$plusargs({NAME, "_gap_num=%d"}, gap_num);
        unused = $value$plusargs({NAME, "_gap_den=%d"}, gap_den);
        unused = $value$plusargs({NAME, "_stall=%d"}, stall);
        unused = $value$plusargs({NAME, "_reorder=%d"}, reorder);
        unused = $value$plusargs({NAME, "_seed=%d"}, seed);
        unused = $value$plusargs({NAME, "_error_first=%h"}, error_first);
        unused = $value$plusargs({NAME, "_error_last=%h"}, error_last);
        if (latency < 1 || gap_den < 1 || gap_num < gap_den || stall < 0 || stall > 99)
            $fatal(1, "latency %0d, gap %0d/%0d or stall %0d of a memory is impossible",
                   latency, gap_num, gap_den, stall);
        read_banks;
        read_ssd;
        read_tables;
        by_due = reorder != 0 && (banks != 0 || ssd_first != NEVER);
        // Any seed must give a state other than zero, and near seeds different sequences.
        random = (seed * 32'h9E3779B1) ^ 32'h5DEECE6D;
        if (random == 0) random = 32'd1;
    end

    task read_banks;
        begin
            banks = 0;
            row_bytes = 2048;
            t_rcd = 0;
            t_rp = 0;
            t_cas = 0;
            t_rc = 0;
            unused = $value$plusargs({NAME, "_banks=%d"}, banks);
            unused = $value$plusargs({NAME, "_row_bytes=%d"}, row_bytes);
            unused = $value$plusargs({NAME, "_t_rcd=%d"}, t_rcd);
            unused = $value$plusargs({NAME, "_t_rp=%d"}, t_rp);
            unused = $value$plusargs({NAME, "_t_cas=%d"}, t_cas);
            unused = $value$plusargs({NAME, "_t_rc=%d"}, t_rc);
            if (banks < 0 || banks > MAX_BANKS || row_bytes < 1
                || t_rcd < 0 || t_rp < 0 || t_cas < 0 || t_rc < 0)
                $fatal(1, "%0d banks with rows of %0d bytes and times %0d %0d %0d %0d are impossible",
                       banks, row_bytes, t_rcd, t_rp, t_cas, t_rc);
        end
    endtask

    integer tables, table_at;
    reg [$clog2(MAX_TABLES)-1:0] table_now;
    reg [63:0] table_first [0:MAX_TABLES-1], table_end [0:MAX_TABLES-1];
    reg [31:0] table_key [0:MAX_TABLES-1], table_rows [0:MAX_TABLES-1];
    integer table_elements [0:MAX_TABLES-1];
    integer table_log2 [0:MAX_TABLES-1], table_lines [0:MAX_TABLES-1];

    task read_tables;
        begin
            tables = 0;
            table_now = 0;
            if ($value$plusargs({NAME, "_tables=%s"}, path)) begin
                file = $fopen(path, "r");
                if (file == 0) $fatal(1, "cannot open the list of tables %0s", path);
                unused = $fscanf(file, "%d", tables);
                if (unused != 1 || tables < 0 || tables > MAX_TABLES)
                    $fatal(1, "%0s lists %0d tables, not 0..%0d", path, tables, MAX_TABLES);
                for (at = 0; at < tables; at = at + 1) begin
                    unused = $fscanf(file, "%d %d %d %d %d %d %d", table_first[at], table_end[at],
                                     table_key[at], table_rows[at], table_elements[at],
                                     table_log2[at], table_lines[at]);
                    if (unused != 7) $fatal(1, "%0s ends in table %0d", path, at);
                    table_end[at] = table_first[at] + table_end[at];
                end
                $fclose(file);
            end
        end
    endtask

    task read_ssd;
        begin
            ssd_first = NEVER;
            ssd_latency = 0;
            ssd_num = 0;
            ssd_den = 1;
            unused = $value$plusargs({NAME, "_ssd_first=%h"}, ssd_first);
            unused = $value$plusargs({NAME, "_ssd_latency=%d"}, ssd_latency);
            unused = $value$plusargs({NAME, "_ssd_num=%d"}, ssd_num);
            unused = $value$plusargs({NAME, "_ssd_den=%d"}, ssd_den);
            if (ssd_latency < 0 || ssd_num < 0 || ssd_den < 1)
                $fatal(1, "latency %0d and %0d/%0d cycles a byte of an SSD are impossible",
                       ssd_latency, ssd_num, ssd_den);
        end
    endtask

    // Bursts in order of arrival: a ring from head up to tail with holes where one was overtaken.
    reg                  waiting [0:DEPTH-1];
    reg [ID_BITS-1:0]    slot_id [0:DEPTH-1];
    reg [ADDR_BITS-1:0]  slot_address [0:DEPTH-1];
    reg [7:0]            slot_len [0:DEPTH-1];
    reg [2:0]            slot_size [0:DEPTH-1];
    reg                  slot_incr [0:DEPTH-1];
    reg [63:0]           slot_due [0:DEPTH-1];
    reg [SLOT_BITS:0]    head, tail, filled;

    reg                  bank_open [0:MAX_BANKS-1];
    reg [ADDR_BITS-1:0]  bank_row [0:MAX_BANKS-1];
    reg [63:0]           bank_free [0:MAX_BANKS-1];    // first cycle of its next command
    reg [63:0]           bank_again [0:MAX_BANKS-1];   // first cycle of its next activation
    reg [63:0]           due_of_id [0:(1<<ID_BITS)-1]; // of the latest burst
    reg [63:0]           ssd_free;            // in cycles / ssd_den
    reg [63:0]           due, command, best;
    reg [ADDR_BITS-1:0]  row;
    reg [$clog2(MAX_BANKS)-1:0] bank;

    reg                  busy;                // a burst is being answered
    reg [ID_BITS-1:0]    now_id;
    reg [ADDR_BITS:0]    now_address;         // one bit more: a burst may run off the end
    reg [7:0]            now_left;
    reg [2:0]            now_size;
    reg                  now_incr;

    reg [63:0]           cycle, beat_at;
    reg [31:0]           random;
    integer              credit, offset, k, lane;
    reg [SLOT_BITS-1:0]  chosen, slot;
    reg                  found;
    reg                  was_waiting;
    reg [ID_BITS+ADDR_BITS+12:0] was_address;

    // xorshift32
    task step_random;
        begin
            random = random ^ (random << 13);
            random = random ^ (random >> 17);
            random = random ^ (random << 5);
        end
    endtask

    function paused(input [15:0] value);
        paused = ((value * 100) >> 16) < stall;
    endfunction

    wire [ID_BITS+ADDR_BITS+12:0] address_now = {arid, araddr, arlen, arsize, arburst};

    task check_protocol;
        begin
            if (was_waiting && (!arvalid || address_now != was_address))
                $fatal(1, "a waiting read address was withdrawn or changed");
            if (arvalid && ((DATA_BYTES >> arsize) == 0))
                $fatal(1, "a read asks for beats of %0d bytes, the bus has %0d",
                       1 << arsize, DATA_BYTES);
            if (arvalid && arburst == INCR
                && (araddr & 12'hFFF & ~((1 << arsize) - 1)) + ((arlen + 1) << arsize) > 4096)
                $fatal(1, "a read burst at %h crosses a 4 KB boundary", araddr);
            was_waiting = arvalid && !arready;
            was_address = address_now;
        end
    endtask

    // When the data of the address offered are there, latency apart.
    task find_due;
        begin
            due = cycle;
            if (araddr >= ssd_first) begin
                if (ssd_free < cycle * ssd_den) ssd_free = cycle * ssd_den;
                ssd_free = ssd_free + ((arlen + 64'd1) << arsize) * ssd_num;
                due = (ssd_free + ssd_den - 1) / ssd_den + ssd_latency;
            end else if (banks != 0) begin
                row = araddr / row_bytes;
                bank = row % banks;
                row = row / banks;
                command = bank_free[bank] > cycle ? bank_free[bank] : cycle;
                if (!bank_open[bank] || bank_row[bank] != row) begin
                    if (bank_open[bank]) command = command + t_rp;
                    if (command < bank_again[bank]) command = bank_again[bank];
                    bank_again[bank] = command + t_rc;
                    command = command + t_rcd;
                    bank_open[bank] = 1'b1;
                    bank_row[bank] = row;
                end
                bank_free[bank] = command + arlen + 1;
                due = command + t_cas;
            end
            due = due + latency - 1;
            // What comes later of an ID is due later, or at the same time.
            if (by_due) begin
                if (due < due_of_id[arid]) due = due_of_id[arid];
                due_of_id[arid] = due;
            end
        end
    endtask

    task accept;
        begin
            find_due;
            slot = tail[SLOT_BITS-1:0];
            waiting[slot] = 1'b1;
            slot_id[slot] = arid;
            slot_address[slot] = araddr;
            slot_len[slot] = arlen;
            slot_size[slot] = arsize;
            slot_incr[slot] = arburst == INCR;
            slot_due[slot] = due;
            tail = tail + 1'b1;
            bursts <= bursts + 1;
        end
    endtask

    // The burst that is due first, the oldest of several; those before it close up.
    task choose_by_due;
        begin
            filled = tail - head;
            found = 1'b0;
            best = cycle + 1;
            for (k = 0; k < filled; k = k + 1) begin
                slot = head[SLOT_BITS-1:0] + k[SLOT_BITS-1:0];
                if (slot_due[slot] < best) begin
                    found = 1'b1;
                    best = slot_due[slot];
                    chosen = slot;
                end
            end
            if (found) begin
                start;
                while (chosen != head[SLOT_BITS-1:0]) begin
                    slot = chosen - 1'b1;
                    slot_id[chosen] = slot_id[slot];
                    slot_address[chosen] = slot_address[slot];
                    slot_len[chosen] = slot_len[slot];
                    slot_size[chosen] = slot_size[slot];
                    slot_incr[chosen] = slot_incr[slot];
                    slot_due[chosen] = slot_due[slot];
                    waiting[chosen] = 1'b1;
                    chosen = slot;
                end
                waiting[chosen] = 1'b0;
                head = head + 1'b1;
            end
        end
    endtask

    task start;
        begin
            busy = 1'b1;
            now_id = slot_id[chosen];
            now_address = {1'b0, slot_address[chosen]};
            now_left = slot_len[chosen];
            now_size = slot_size[chosen];
            now_incr = slot_incr[chosen];
            waiting[chosen] = 1'b0;
        end
    endtask

    // In order, or without banks and tiers: latency is the same for all, so if a burst is due, those
    // before it are.
    task choose;
        begin
            chosen = head[SLOT_BITS-1:0];
            filled = tail - head;
            found = filled != 0 && slot_due[chosen] <= cycle;
            if (found && reorder != 0) begin
                step_random;
                offset = random[15:0] % WINDOW;
                slot = chosen + offset[SLOT_BITS-1:0];
                if (offset < filled && waiting[slot] && slot_due[slot] <= cycle) begin
                    // The oldest burst of that ID goes first.
                    chosen = slot;
                    for (k = WINDOW - 1; k >= 0; k = k - 1) begin
                        slot = head[SLOT_BITS-1:0] + k[SLOT_BITS-1:0];
                        if (k < offset && waiting[slot] && slot_id[slot] == slot_id[chosen])
                            chosen = slot;
                    end
                end
            end
            if (found) start;
            while (head != tail && !waiting[head[SLOT_BITS-1:0]]) head = head + 1'b1;
        end
    endtask

    // The table that the beat at beat_at is in: table_now, unless in_table is low.
    reg                  in_table;
    reg [63:0]           line;
    task find_table;
        begin
            line = beat_at / LINE_BYTES * CHANNELS + CHANNEL;
            in_table = tables != 0 && line >= table_first[table_now] && line < table_end[table_now];
            for (table_at = 0; !in_table && table_at < tables; table_at = table_at + 1)
                if (line >= table_first[table_at] && line < table_end[table_at]) begin
                    table_now = table_at;
                    in_table = 1'b1;
                end
        end
    endtask

    // Its bytes, element by element.
    reg [63:0]           row_first, byte_row;
    reg [31:0]           element, made;
    task generate_beat;
        begin
            line = line - table_first[table_now];
            if (table_log2[table_now] != 0) row_first = line << table_log2[table_now];
            else row_first = line / table_lines[table_now];
            for (lane = 0; lane < DATA_BYTES; lane = lane + 1) begin
                element = beat_at % LINE_BYTES + lane;
                byte_row = row_first;
                if (table_log2[table_now] != 0) begin
                    byte_row = row_first + element / (LINE_BYTES >> table_log2[table_now]);
                    element = element % (LINE_BYTES >> table_log2[table_now]);
                end else
                    element = element + line % table_lines[table_now] * LINE_BYTES;
                if (lane == 0 || element[1:0] == 0) begin
                    made = table_key[table_now] + byte_row[31:0] * 32'h9E3779B1
                         + (element >> 2) * 32'h85EBCA77;
                    made = (made ^ (made >> 16)) * 32'h7FEB352D;
                    made = (made ^ (made >> 15)) * 32'h846CA68B;
                    made = made ^ (made >> 16);
                end
                rdata[8*lane +: 8] <= 8'd0;
                if (byte_row < table_rows[table_now] && element < table_elements[table_now])
                    rdata[8*lane +: 8] <= made[8*element[1:0] +: 8];
            end
        end
    endtask

    task send_beat;
        begin
            rvalid <= 1'b1;
            rid <= now_id;
            rlast <= now_left == 0;
            beat_at = (now_address >> LANE_BITS) << LANE_BITS;
            rresp <= OKAY;
            find_table;
            if (!now_incr) rresp <= SLVERR;
            else if (beat_at + DATA_BYTES > SIZE_BYTES && !in_table) rresp <= DECERR;
            else if (error_first <= error_last && now_address <= error_last
                     && (((now_address >> now_size) + 1) << now_size) > error_first)
                rresp <= SLVERR;
            else if (in_table) generate_beat;
            else
                for (lane = 0; lane < DATA_BYTES; lane = lane + 1)
                    rdata[8*lane +: 8] <= mem[beat_at + lane];
            now_address = ((now_address >> now_size) + 1'b1) << now_size;
            if (now_left == 0) busy = 1'b0;
            now_left = now_left - 1'b1;
            credit = credit - gap_num;
        end
    endtask

    always @(posedge clk) begin
        if (rst) begin
            arready <= 1'b0;
            rvalid <= 1'b0;
            bursts <= 0;
            beats <= 0;
            head = 0;
            tail = 0;
            busy = 1'b0;
            credit = gap_num;
            cycle = 0;
            was_waiting = 1'b0;
            ssd_free = 0;
            for (k = 0; k < DEPTH; k = k + 1) waiting[k] = 1'b0;
            for (k = 0; k < MAX_BANKS; k = k + 1) begin
                bank_open[k] = 1'b0;
                bank_free[k] = 0;
                bank_again[k] = 0;
            end
            for (k = 0; k < (1 << ID_BITS); k = k + 1) due_of_id[k] = 0;
        end else begin
            check_protocol;
            if (arvalid && arready) accept;
            if (rvalid && rready) beats <= beats + 1;
            credit = credit + gap_den;
            if (credit > gap_num + gap_den - 1) credit = gap_num + gap_den - 1;
            if (stall != 0) step_random;
            if (!rvalid || rready) begin
                rvalid <= 1'b0;
                // What a beat does not set must not look like memory.
                rdata <= {DATA_BYTES{8'hEE}};
                if (!busy && by_due) choose_by_due;
                else if (!busy) choose;
                if (busy && credit >= gap_num && !(stall != 0 && paused(random[15:0]))) send_beat;
            end
            filled = tail - head;
            arready <= filled < DEPTH && !(stall != 0 && paused(random[31:16]));
            cycle = cycle + 1;
        end
    end
endmodule
