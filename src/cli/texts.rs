//! The longer texts of the help and of the manual page.

/// What probes look like.
macro_rules! probes {
    () => {
        "\
Probes:
  malloc  libc:malloc  malloc@libc  libc!malloc   a symbol, in any module or in one
  'str*'  '/^str(len|cpy)$/'  'libc:*'  '*:*'     a glob, a regex, a module, everything
  f+0x10  libc:0x1136  0x401136  file.c:42        an instruction, address, source line
  memcpy@GLIBC_2.2.5  memcpy@@GLIBC_2.14          a version of a symbol
  '\"ns::f(int, char)\"'                            a name with spaces, quoted inside
  f%stop                                          stops the target there
  @FILE                                           probes from FILE, one a line, # comments
Arguments, after a space:
  size=%di  n=$arg1:u32  $stack2                  registers, arguments, the stack
  path=+0(%di):string  +8(+0(%si)):x32            memory: +OFFSET(ADDRESS):TYPE
  len  $args                                      by debug information
  types: u8..u64 s8..s64 x8..x64 char bool string b4@3/8; x64 when none is given"
    };
}

/// Of the whole program.
pub(super) const EXAMPLES: &str = "\
Examples:
  kptrace run -c -p '*' -- ls -l
  kptrace attach -c -p 'libc:*' --duration 5 1234
  kptrace list /usr/bin/redis-server '*Command'
  kptrace check -v 1234 libc:malloc

Environment:
  KPTRACE_OPTIONS=\"-c -p 'libc:*'\"  options and probes for run and attach, as a shell reads
                                     them; for scripts that call kptrace

Exit status:
  run ends as its command ended; 125 kptrace failed, 126 not executable, 127 not found.
  bt: 0 or the program's exit(), or 1 failure. The others: 0, or 1 failure; attach the
  program's exit(). All but bt: 2 bad option or probe, 3 no probe matched.";

/// Of `run`.
pub(super) const RUN_EXAMPLES: &str = concat!(
    "\
Examples:
  kptrace run -c -p '*' -- ls -l
  kptrace run -p 'libc:malloc size=%di' -- ls
  kptrace run -p 'libc:open* path=+0(%di):string' -o trace.txt -- cat /etc/hostname
  kptrace run --format tree -p '*' -D 4 -t 10us -- ls
  kptrace run --format folded -o ls.folded -p '*' -- ls    (then: flamegraph.pl ls.folded)
  kptrace run -e 'uprobe:libc:malloc /arg0 > 4096/ { @[comm] = hist(arg0); }' -- ls

",
    probes!()
);

/// Of `attach`.
pub(super) const ATTACH_EXAMPLES: &str = concat!(
    "\
Examples:
  kptrace attach -c -p '*' 1234
  kptrace attach -c -p '*Command' --name redis-server --duration 5
  kptrace attach --format summary --call -p 'libc:*' --duration 5 1234
  kptrace attach --format chrome -o trace.json -p '*' -F handle_request --duration 5 1234
  kptrace attach -p 'libc:malloc size=%di' --format json -o trace.json --duration 5 1234

",
    probes!()
);

/// Of `list`.
pub(super) const LIST_EXAMPLES: &str = "\
Examples:
  kptrace list /usr/bin/redis-server '*Command'
  kptrace list --json 1234 'libc:*'";

/// Of `check`.
pub(super) const CHECK_EXAMPLES: &str = "\
Examples:
  kptrace check /usr/bin/ls '*'
  kptrace check -v 1234 libc:malloc 'libc:free p=%di'
  kptrace check -e 'uprobe:libc:malloc { @ = hist(arg0); }' /usr/bin/ls
  kptrace check --dump code -f probe.bt";

/// Of `ctl`.
pub(super) const CTL_EXAMPLES: &str = "\
Examples:
  kptrace ctl 1234 list
  kptrace ctl 1234 disable 'mem*'
  kptrace ctl 1234 add 'libc:open* path=+0(%di):string'
  kptrace ctl 1234 off

Each prints a line that says what came of it. SIGUSR1 to kptrace is off, SIGUSR2 on, for all
processes that it traces. Counts go on where they were: a probe that is removed and added again
is the same. A program that the process begins keeps on, off and opt; its probes are as they
were asked for.

The socket takes and gives JSON, an object a line: {\"do\":\"list\"}, \"on\", \"off\", \"detach\",
{\"do\":\"opt\",\"on\":true}, {\"do\":\"enable\",\"probe\":\"N or name\"}, \"disable\", \"add\", \"remove\". It is
$XDG_RUNTIME_DIR/kptrace/PID or /tmp/kptrace-UID/PID. Whoever does not read is dropped.

Exit status: 0, 1 failure, 2 bad request, 3 no such probe.";

/// Of `bt`.
pub(super) const BT_EXAMPLES: &str = "\
Examples:
  kptrace bt -e 'uprobe:libc:malloc { @ = hist(arg0); }' -c 'ls -l'
  kptrace bt -f json -o out.json bashreadline.bt -p 1234";

/// Of `top`.
pub(super) const TOP_EXAMPLES: &str = "\
Examples:
  kptrace attach --format summary --call -p '*' 1234 &
  kptrace top 1234";

/// Of `restore`.
pub(super) const RESTORE_EXAMPLES: &str = "\
Examples:
  kptrace restore 1234
  pgrep redis-server | xargs -n1 kptrace restore

Exit status: 0 nothing is left, 1 something is, or the process cannot be traced.";

/// The manual page's EXAMPLES.
pub(super) const PROBES: &str = probes!();
