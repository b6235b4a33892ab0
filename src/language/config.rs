//! Settings of a program: `config = { ... }`. One entry a setting; those of bpftrace that mean
//! nothing here are known by name.

use super::check::stack_mode;
use super::source::Reports;
use super::tree::{MapDeclaration, Setting};
use super::typed::{Config, Missing, StackMode};
use crate::base::suggest;

const KNOWN: &[&str] = &[
    "missing_probes",
    "print_maps_on_exit",
    "max_strlen",
    "max_map_keys",
    "stack_mode",
];

/// Settings of bpftrace that change nothing here.
const WITHOUT_MEANING: &[&str] = &[
    "cache_user_symbols",
    "cpp_demangle",
    "lazy_symbolication",
    "license",
    "log_size",
    "max_ast_nodes",
    "max_bpf_progs",
    "max_cat_bytes",
    "max_probes",
    "max_type_res_iterations",
    "on_stack_limit",
    "perf_rb_pages",
    "probe_inline",
    "show_debug_info",
    "str_trunc_trailer",
    "symbol_source",
    "unstable_dw_ustack",
    "unstable_import",
    "unstable_macro",
    "unstable_map_decl",
    "unstable_tseries",
    "use_blazesym",
    "verify_llvm_ir",
];

/// Longest string, and largest map, that can be asked for.
const MOST_STRLEN: u32 = 1 << 16;
const MOST_KEYS: u32 = 1 << 24;

/// Reads the settings.
pub(super) fn read(settings: &[Setting], reports: &mut Reports<'_>) -> (Config, StackMode) {
    let mut config = Config::default();
    let mut mode = StackMode::default();
    for setting in settings {
        let lower = setting.name.text.to_ascii_lowercase();
        let name = lower.strip_prefix("bpftrace_").unwrap_or(&lower);
        let value = setting.value.text.as_str();
        let span = &setting.value.span;
        let mut wrong = |help: &str| {
            let message = format!("`{name}` cannot be `{value}`");
            reports.error_help(span, message, help);
        };
        match name {
            "missing_probes" => match value {
                "ignore" => config.missing = Some(Missing::Ignore),
                "warn" => config.missing = Some(Missing::Warn),
                "error" => config.missing = Some(Missing::Error),
                _ => wrong("it is ignore, warn or error"),
            },
            "print_maps_on_exit" => match value {
                "true" | "1" => config.print_maps_on_exit = Some(true),
                "false" | "0" => config.print_maps_on_exit = Some(false),
                _ => wrong("it is true or false"),
            },
            "max_strlen" => match value.parse() {
                Ok(n) if (1..=MOST_STRLEN).contains(&n) => config.max_strlen = Some(n),
                _ => wrong(&format!("it is a number from 1 to {MOST_STRLEN}")),
            },
            "max_map_keys" => match value.parse() {
                Ok(n) if (1..=MOST_KEYS).contains(&n) => config.max_map_keys = Some(n),
                _ => wrong(&format!("it is a number from 1 to {MOST_KEYS}")),
            },
            "stack_mode" => match stack_mode(value) {
                Some(given) => mode = given,
                None => wrong("it is bpftrace, perf or raw"),
            },
            _ if WITHOUT_MEANING.contains(&name) => {
                let message = format!("the setting `{name}` changes nothing here");
                reports.warn(&setting.name.span, message, "");
            }
            _ => {
                let message = format!("there is no setting `{}`", setting.name.text);
                let help = match suggest::closest(name, KNOWN.iter().copied()) {
                    Some(close) => format!("did you mean `{close}`?"),
                    None => format!("there are {}", KNOWN.join(", ")),
                };
                reports.warn(&setting.name.span, message, help);
            }
        }
    }
    (config, mode)
}

/// `let @a = hash(100);`: how many entries a map has room for.
pub(super) fn declarations(
    declared: &[MapDeclaration],
    config: &mut Config,
    reports: &mut Reports<'_>,
) {
    const KINDS: &[&str] = &[
        "hash",
        "lruhash",
        "percpuhash",
        "percpulruhash",
        "percpuarray",
        "array",
    ];
    for map in declared {
        let kind = map.kind.text.as_str();
        if !KINDS.contains(&kind) {
            let message = format!("there are no `{kind}` maps");
            let help = format!("there are {}", KINDS.join(", "));
            reports.error_help(&map.kind.span, message, help);
            continue;
        }
        let size = u32::try_from(map.size).ok();
        let Some(size) = size.filter(|n| (1..=MOST_KEYS).contains(n)) else {
            let message = format!("`{}` has room for no such number of entries", map.name.text);
            let help = format!("it is a number from 1 to {MOST_KEYS}");
            reports.error_help(&map.name.span, message, help);
            continue;
        };
        if kind.contains("lru") {
            reports.warn(
                &map.kind.span,
                "a full map keeps its entries here: new keys are lost, and counted",
                "as in a hash",
            );
        }
        if config.sizes.insert(map.name.text.clone(), size).is_some() {
            let message = format!("`{}` is declared twice", map.name.text);
            reports.error(&map.name.span, message);
        }
    }
}
