//! Arguments by name and structures in programs: from DWARF, and from prototypes without it.

use std::path::Path;

use super::support::*;

const REQUEST: &str = r#"
    struct request {
        int id;
        struct { int len; unsigned a : 3, b : 7; } header;
        union { long x; char tag[8]; };
        struct request *next;
    };
    extern "C_" __attribute__((noinline, noclone)) int handle(struct request *req, int n)
    {
        __asm__ volatile("" : : "r"(req) : "memory");
        return n;
    }
    struct request second = { 7, { 9, 5, 100 }, { 0x6f7774 }, 0 };
    struct request first = { 1, { 42, 2, 99 }, { 0x656e6f }, &second };
    int main() { return handle(&first, 3) - 3; }
"#;

fn printed(program: &str, target: &Path) -> String {
    let target = target.to_str().expect("UTF-8");
    kptrace(&["run", "-q", "-e", program, "--", target])
        .expect(0)
        .err
}

#[test]
fn arguments_have_the_names_and_types_of_debug_information() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language_reference");
    let text = |name: &str| std::fs::read_to_string(reference.join(name)).expect(name);
    let target = Source::new("cc", "c", "target", text("target.c")).build();
    let program = text("args_names.bt").replace("./target", target.to_str().expect("UTF-8"));
    assert_eq!(printed(&program, &target), text("args_names.txt"));
}

#[test]
fn members_of_structures_are_found_in_c_and_in_cpp() {
    let body = r#"{ printf("%d %d %d %s %s %d\n", args.req->header.len, args.req->header.b, args.n,
        args.req->tag, args.req->next->tag, args.req->next.id); }"#;
    let c = REQUEST.replace("extern \"C_\"", "");
    let c = Source::new("cc", "c", "request", c).build();
    let line = "42 99 3 one two 7\n";
    assert_eq!(
        printed(&format!("uprobe:handle {body}"), &c).trim_end(),
        line.trim_end()
    );
    if !has("c++") {
        return;
    }
    let cpp = REQUEST.replace("extern \"C_\"", "namespace shop { struct unrelated; }");
    let cpp = Source::new("c++", "cc", "request", cpp).build();
    let found = printed(&format!("uprobe:*handle* {body}"), &cpp);
    assert_eq!(found.trim_end(), line.trim_end());
}

#[test]
fn prototypes_name_the_arguments_of_libc() {
    let program = "uprobe:libc:puts { printf(\"%s\\n\", str(args.s)); }";
    let target = "#include <stdio.h>\nint main() { puts(\"said\"); return 0; }";
    let target = Source::new("cc", "c", "says", target).flags(&["-g0", "-fno-builtin"]);
    assert_eq!(printed(program, &target.build()).trim_end(), "said");
}

#[test]
fn a_running_process_is_asked_by_names_of_its_debug_information() {
    let ptracer = "#include <stdio.h>\n#include <sys/prctl.h>\n";
    let main = r#"int main() {
        char line[16];
        prctl(0x59616d61, -1L, 0, 0, 0);
        puts("ready");
        fflush(stdout);
        while (fgets(line, sizeof line, stdin))
            handle(&first, line[0] - '0');
        return 0;
    }"#;
    let text = REQUEST.replace("extern \"C_\"", "");
    let (text, _) = text.split_once("int main()").expect("main");
    let text = format!("{ptracer}{text}{main}");
    let built = Source::new("cc", "c", "asked", text).build();
    let program = r#"uprobe:handle /args.n > 4/ {
        printf("%d %s %d\n", args.n, args.req->next->tag, args.req->header.len);
        exit();
    }"#;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), program).expect("written");
    let mut target = command(&built);
    target.stdin(std::process::Stdio::piped());
    let mut target = start(target);
    target.out.wait_for("ready");
    let pid = target.pid().to_string();
    for (option, text) in [
        ("-e", program),
        ("-f", file.path().to_str().expect("UTF-8")),
    ] {
        let mut kptrace = command(launch::binary());
        kptrace.args(["attach", "--format", "json", option, text, &pid]);
        let mut kptrace = start(kptrace);
        kptrace.out.wait_for("attached_probes");
        target.write("3\n7\n");
        let said = kptrace.out.wait_for("printf");
        assert!(said.contains(r#""data":"7 two 42\n""#), "{said}");
        kptrace.end().expect(0);
    }
    target.end().expect(0);
}
