//! The target programs: made once a run, by the C compiler of the machine.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// Functions in the large program.
pub const MANY: usize = 10_000;

const SOURCES: [(&str, &str); 5] = [
    ("hot.c", include_str!("programs/hot.c")),
    ("hot.S", include_str!("programs/hot.S")),
    ("layout.inc", include_str!("programs/layout.inc")),
    ("pause.c", include_str!("programs/pause.c")),
    ("paced.c", include_str!("programs/paced.c")),
];

/// Where the programs are.
pub struct Programs {
    /// A directory for files of this run.
    pub dir: PathBuf,
    /// `hot` and its twin, called in slices.
    pub hot: PathBuf,
    /// Ten thousand functions, and a thread that knows its longest pause.
    pub many: PathBuf,
    /// So many calls a second.
    pub paced: PathBuf,
}

impl Programs {
    /// Compiles all of them.
    pub fn build() -> anyhow::Result<Programs> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
        std::fs::create_dir_all(&dir)?;
        for (name, text) in SOURCES {
            std::fs::write(dir.join(name), text)?;
        }
        std::fs::write(dir.join("many.S"), many())?;
        let programs = Programs {
            hot: dir.join("hot"),
            many: dir.join("many"),
            paced: dir.join("paced"),
            dir,
        };
        // Fixed addresses: code that was made elsewhere is put beside `hot`.
        programs.compile(
            &[
                "-no-pie",
                "-mfsgsbase",
                "-fno-omit-frame-pointer",
                "-Wl,--section-start=.hot=0x10000000",
                "-Wl,--section-start=.floor=0x11000000",
            ],
            "hot",
            &["hot.c", "hot.S"],
        )?;
        programs.compile(&[], "many", &["pause.c", "many.S"])?;
        programs.compile(&[], "paced", &["paced.c"])?;
        Ok(programs)
    }

    fn compile(&self, options: &[&str], output: &str, sources: &[&str]) -> anyhow::Result<()> {
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let result = Command::new(&compiler)
            .current_dir(&self.dir)
            .args(["-O2", "-g", "-pthread"])
            .args(options)
            .args(["-o", output])
            .args(sources)
            .output()
            .with_context(|| format!("starting {}", compiler.display()))?;
        if !result.status.success() {
            bail!("{output}: {}", String::from_utf8_lossy(&result.stderr));
        }
        Ok(())
    }
}

/// Assembly of functions `fn_00000`... and of their equals `tw_00000`..., with tables of both.
/// Sizes and first instructions vary as they do in compiled code.
fn many() -> String {
    let mut text = String::from("        .intel_syntax noprefix\n        .text\n");
    for prefix in ["fn", "tw"] {
        for n in 0..MANY {
            let name = format!("{prefix}_{n:05}");
            let begin = match n % 4 {
                0 => "push rbx\n mov rbx, rdi\n",
                1 => "endbr64\n push rbx\n mov ebx, edi\n",
                2 => "push rbp\n mov rbp, rsp\n push rbx\n mov rbx, rdi\n",
                _ => "sub rsp, 16\n mov [rsp], rbx\n mov rbx, rdi\n",
            };
            let end = match n % 4 {
                0 | 1 => "pop rbx\n ret\n",
                2 => "pop rbx\n pop rbp\n ret\n",
                _ => "mov rbx, [rsp]\n add rsp, 16\n ret\n",
            };
            let _ = write!(
                text,
                ".p2align 4\n.type {name}, @function\n{name}: {begin} \
                 imul rax, rbx, {}\n add rax, {n}\n xor rax, rbx\n {end}.size {name}, .-{name}\n",
                2 * n + 3,
            );
        }
    }
    text.push_str("        .section .data.rel.ro, \"aw\"\n        .p2align 3\n");
    for (table, prefix) in [("armed_table", "fn"), ("twin_table", "tw")] {
        let _ = write!(text, ".globl {table}\n{table}:\n");
        for n in 0..MANY {
            let _ = writeln!(text, " .quad {prefix}_{n:05}");
        }
    }
    let _ = write!(
        text,
        ".globl table_len\ntable_len: .quad {MANY}\n.section .note.GNU-stack, \"\", @progbits\n"
    );
    text
}
