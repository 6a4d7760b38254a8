// Writes what a machine does into a file: a line each time that it does something else, the number
// of the cycle since reset in decimal and the watched bits in hexadecimal.
//
//   +trace=FILE
/* verilator lint_off DECLFILENAME */
module trace_monitor #(
    parameter BITS = 1
) (
    input wire            clk,
    input wire            rst,
    input wire [BITS-1:0] watched
);
    integer file;
    reg [63:0] cycle = 0;
    reg [BITS-1:0] last = 0;
    reg [8*1024-1:0] path;

    initial begin
        if (!$value$plusargs("trace=%s", path)) $fatal(1, "no file +trace=FILE");
        file = $fopen(path, "w");
        if (file == 0) $fatal(1, "cannot write the trace %0s", path);
    end

    always @(posedge clk) begin
        if (!rst) begin
            if (watched != last) $fwrite(file, "%0d %h\n", cycle, watched);
            last <= watched;
            cycle <= cycle + 1;
        end
    end
endmodule
