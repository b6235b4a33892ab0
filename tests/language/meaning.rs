//! What the checker decides, asked of its tree: types, signs, keys.

use kptrace::language::debug::Nothing;
use kptrace::language::typed::{Checked, MapValue, Type};
use kptrace::language::{Source, Warning, compile};
use kptrace::program::Width;

use crate::fake::{Fake, int};

fn checked(text: &str) -> Checked {
    match compile(&Source::new("t.bt", text), &[], false, &Fake) {
        Ok((checked, _)) => checked,
        Err(errors) => panic!("{text}: {}", errors[0]),
    }
}

fn first_error(text: &str) -> String {
    match compile(&Source::new("t.bt", text), &[], false, &Fake) {
        Ok(_) => panic!("{text} compiles"),
        Err(errors) => errors[0].message.clone(),
    }
}

fn warnings(text: &str) -> Vec<String> {
    let (_, warnings) = compile(&Source::new("t.bt", text), &[], false, &Fake).unwrap();
    warnings.iter().map(|w| Warning(w).to_string()).collect()
}

/// The dump of `u:f { body }`.
fn body(text: &str) -> String {
    checked(&format!("u:f {{ {text} }}")).to_string()
}

#[test]
fn a_map_has_one_key_however_it_is_written() {
    let program =
        checked("u:f { @[pid, comm] = 1; @[(tid, \"x\")] = 2; $t = (1, comm); @[$t]++; }");
    let text = Type::Str { max: 15 };
    assert_eq!(program.maps[0].key, [int(Width::W64, true), text]);
}

#[test]
fn what_a_map_holds_may_be_known_only_later() {
    let program = checked(
        "ur:f /@n[tid]/ { printf(\"%s\", str(@n[tid])); delete(@n, tid); } u:f { @n[tid] = arg0; }",
    );
    let value = MapValue::Plain(int(Width::W64, false));
    assert_eq!(program.maps[0].value, value);
    assert!(program.maps[0].read);
    assert_eq!(
        first_error("u:f { printf(\"%s\", @n); } u:g { @n = arg0; }"),
        "`%s` does not show an integer"
    );
}

#[test]
fn signs_follow_the_operands() {
    for (text, wanted) in [
        ("if (arg0 > 0) {}", "if (0 < arg0)"),
        ("if ((int32)arg0 > 0) {}", "if (0 <s (int32)arg0)"),
        ("if ((int32)arg0 > arg1) {}", "if (arg1 < (int32)arg0)"),
        ("if ((int32)arg0 > pid) {}", "if (pid <s (int32)arg0)"),
        (
            "$x = (nsecs - arg0) / 1e6;",
            "$0 = ((nsecs - arg0) /s 1000000)",
        ),
        ("$x = nsecs / 1e6;", "$0 = (nsecs / 1000000)"),
        ("$x = -7 / 2;", "$0 = (-7 /s 2)"),
        ("$x = (int64)arg0 >> 2;", "$0 = ((int64)arg0 >>s 2)"),
        ("$x = 7 & 3 == 3;", "$0 = (7 & (3 == 3))"),
        ("$x = 1 + 2 * 3 - 4;", "$0 = ((1 + (2 * 3)) - 4)"),
    ] {
        let dump = body(text);
        assert!(dump.contains(wanted), "{text}:\n{dump}");
    }
}

#[test]
fn a_variable_takes_the_widest_of_its_types() {
    let program = checked("u:f { $x = 1; if ($x > 0) {} $x = arg0; }");
    assert_eq!(program.blocks[0].locals, [int(Width::W64, false)]);
    assert!(program.to_string().contains("(0 < $0)"));
    let program = checked("u:f { $s = \"ab\"; $s = comm; }");
    assert_eq!(program.blocks[0].locals, [Type::Str { max: 15 }]);
}

#[test]
fn a_block_is_split_where_its_arguments_differ() {
    let program = checked("u:handle, u:finish, u:b:handle { @[args.n] = count(); }");
    let sizes: Vec<usize> = program.blocks.iter().map(|b| b.attach.len()).collect();
    assert_eq!(sizes, [2, 1]);
    let same = checked("u:handle, u:finish { @ = count(); }");
    assert_eq!(same.blocks.len(), 1);
    let usdt = checked("U:x:tick, U:x:tock { @[arg0] = count(); }");
    assert_eq!(usdt.blocks.len(), 2);
    // A block for each way in which the places of a probe pass what is asked for.
    let blocks = |text| checked(text).blocks.len();
    assert_eq!(blocks("U:x:sold { @[arg0] = count(); }"), 2);
    assert_eq!(blocks("U:x:sold { @[arg1] = count(); }"), 1);
    assert_eq!(blocks("U:x:sold { @ = count(); }"), 1);
}

#[test]
fn what_macros_and_blocks_do_first_comes_first() {
    let dump =
        checked("macro m($x) { $x += 1; $x } u:f { $y = 1; $z = $y + m($y) * m($y); }").to_string();
    let wanted = "\
  $0 = 1
  $2 = $0
  $0 = ($0 + 1)
  $1 = $0
  $0 = ($0 + 1)
  $3 = ($2 + ($1 * $0))
";
    assert!(dump.contains(wanted), "{dump}");
    let dump =
        checked("macro m($x) { $x += 1; $x } u:f { $y = 1; if ($y > 2 && m($y) > 3) { exit(); } }")
            .to_string();
    assert!(
        dump.contains("  if (2 <s $0) {\n    $0 = ($0 + 1)"),
        "{dump}"
    );
}

#[test]
fn libc_functions_have_parameters_without_debug_information() {
    let text = "u:libc:open { printf(\"%s\", str(args.pathname)); }";
    assert!(compile(&Source::new("t", text), &[], false, &Nothing).is_ok());
    let text = "u:libx:open { printf(\"%s\", str(args.pathname)); }";
    assert!(compile(&Source::new("t", text), &[], false, &Nothing).is_err());
}

#[test]
fn debug_information_is_asked_only_where_it_is_needed() {
    struct Never;
    impl kptrace::language::debug::Debug for Never {
        fn parameters(
            &self,
            _: &kptrace::spec::ProbeSpec,
        ) -> Result<Vec<kptrace::language::debug::Parameter>, String> {
            panic!("parameters")
        }
        fn structure(
            &self,
            _: &kptrace::spec::ProbeSpec,
            _: &str,
        ) -> Option<kptrace::language::debug::Structure> {
            panic!("structure")
        }
        fn usdt(
            &self,
            _: &kptrace::spec::ProbeSpec,
        ) -> Result<Vec<kptrace::language::debug::Noted>, String> {
            panic!("usdt")
        }
    }
    let text = "struct s { int a; }; u:f, ur:g, U:x:y { @ = count(); } u:f { print(((struct s *)arg0)->a); }";
    assert!(compile(&Source::new("t", text), &[], false, &Never).is_ok());
}

#[test]
fn missing_probes_decides_what_a_kernel_probe_means() {
    let with = |mode: &str| {
        format!("config = {{ missing_probes = {mode}; }} kprobe:f, u:g {{ @ = count(); }}")
    };
    assert!(first_error(&with("error")).contains("`kprobe` is a probe of the kernel"));
    assert_eq!(checked(&with("ignore")).blocks[0].attach.len(), 1);
    assert!(warnings(&with("ignore")).is_empty());
    assert!(warnings(&with("warn"))[0].contains("it is left out"));
}

#[test]
fn an_unsigned_value_below_zero_is_warned_of() {
    let all = warnings("ur:f /retval < 0/ { @ = count(); }");
    assert!(
        all[0].contains("this is never true: `retval` is unsigned"),
        "{all:?}"
    );
    assert!(warnings("ur:f /(int32)retval < 0/ { @ = count(); }").is_empty());
}

#[test]
fn all_errors_of_a_text_are_reported_in_its_order() {
    let text =
        "BEGIN { printf(\"%d\"); $x = foo; }\nu:f { @x = ; }\nuprob:g { nope(); }\nur:f { @ = 1 }";
    let errors = compile(&Source::new("t.bt", text), &[], false, &Fake).unwrap_err();
    let lines: Vec<usize> = errors
        .iter()
        .map(|e| e.place.as_ref().unwrap().line)
        .collect();
    assert!(lines.is_sorted(), "{lines:?}");
    assert!(errors.len() >= 4, "{}", errors.len());
}

#[test]
fn parameters_are_numbers_or_strings() {
    let given = ["42".to_owned(), "bash".to_owned(), "-3".to_owned()];
    let text = "u:f /pid == $1 && comm == $2/ { print(str($1)); print($3); print($#); print($9); print(str($9)); }";
    let (checked, _) = compile(&Source::new("t", text), &given, false, &Nothing).unwrap();
    let dump = checked.to_string();
    for part in [
        "(pid == 42)",
        "\"bash\"",
        "print \"42\"",
        "print -3",
        "print 3",
        "print 0",
        "print \"\"",
    ] {
        assert!(dump.contains(part), "{part}:\n{dump}");
    }
}

#[test]
fn a_variable_that_is_never_assigned_is_zero() {
    let dump = body("let $x; print($x); let $s; $s = comm; print($s);");
    assert!(dump.contains("$0 = 0\n  print $0: int64"), "{dump}");
    assert!(dump.contains("print $1: string[15]"), "{dump}");
}

#[test]
fn a_map_that_is_given_only_itself_is_refused() {
    for text in ["u:f { @a = @b; @b = @a; }", "u:f { @a = (@a, 1); }"] {
        assert!(
            first_error(text).contains("is never given a value"),
            "{text}"
        );
    }
}

#[test]
fn hostile_sizes_are_read_in_time() {
    let repeated = |part: &str| part.repeat((1 << 18) / part.len());
    let nested = |open: &str, close: &str| {
        let chain = " + 1".repeat(180);
        format!(
            "u:f {{ {} print(1{chain}); {} }}",
            open.repeat(190),
            close.repeat(190)
        )
    };
    for text in [
        repeated("u:f,"),
        repeated("u:f{}"),
        repeated("#"),
        repeated("/"),
        repeated("("),
        repeated("{"),
        format!("BEGIN {{ {} }}", repeated("@a[1]=2;")),
        format!("BEGIN {{ print(({})); }}", "{ $x = 1; $x },".repeat(5000)),
        format!(
            "#define A {}\nBEGIN {{ {} }}",
            "1+".repeat(90),
            repeated("A ")
        ),
        nested("if (1) {", "}"),
        nested("{", "}"),
        format!("u:f {{ {} }}", "$x = { ".repeat(190) + &"1 }".repeat(190)),
    ] {
        let source = Source::new("t", &text);
        let _ = compile(&source, &[], false, &Nothing);
    }
}
