//! How the frames of a stack are shown, as text and in JSON. Knows no hit.

use std::sync::Arc;

use super::json::{key, unsigned};
use super::{escape, number};
use crate::data::Frame;

/// A frame of a stack: `    libc.so.6:qsort+0x1c msort.c:41`.
pub(super) fn text(out: &mut Vec<u8>, frame: &Frame) {
    out.extend_from_slice(b"    ");
    if let Some(module) = &frame.module {
        escape::text(out, module.as_bytes());
        out.push(b':');
    }
    match &frame.function {
        Some(function) => {
            escape::text(out, function.as_bytes());
            if let Some(offset) = frame.offset {
                out.push(b'+');
                number::hex(out, offset);
            }
        }
        None => number::hex(out, frame.address),
    }
    if let Some(file) = &frame.file {
        out.push(b' ');
        escape::text(out, file.as_bytes());
        if let Some(line) = frame.line {
            out.push(b':');
            number::decimal(out, line.into());
        }
    }
    if frame.inlined {
        out.extend_from_slice(b" (inlined)");
    }
    out.push(b'\n');
}

/// `"stack":[{"address":"0x..","function":"f","offset":N,"module":"m","file":"f.c","line":N}]`; with
/// `"inlined":true` for what is inlined in the next.
pub(super) fn json(out: &mut Vec<u8>, stack: &[Arc<[Frame]>]) {
    for (index, frame) in stack.iter().flat_map(|frames| frames.iter()).enumerate() {
        if index == 0 {
            key(out, "stack");
        }
        out.push(if index == 0 { b'[' } else { b',' });
        out.extend_from_slice(b"{\"address\":\"");
        number::hex(out, frame.address);
        out.push(b'"');
        let text = |out: &mut Vec<u8>, name: &str, value: &Option<String>| {
            if let Some(value) = value {
                key(out, name);
                escape::json(out, value.as_bytes());
            }
        };
        text(out, "function", &frame.function);
        if let Some(offset) = frame.offset {
            key(out, "offset");
            unsigned(out, offset);
        }
        text(out, "module", &frame.module);
        text(out, "file", &frame.file);
        if let Some(line) = frame.line {
            key(out, "line");
            unsigned(out, line.into());
        }
        if frame.inlined {
            out.extend_from_slice(b",\"inlined\":true");
        }
        out.push(b'}');
    }
    if !stack.is_empty() {
        out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_a_list_of_frames() {
        let frame = Frame {
            address: 0x10,
            function: Some("f\"".to_owned()),
            offset: Some(4),
            module: Some("m".to_owned()),
            file: Some("f.c".to_owned()),
            line: Some(3),
            inlined: false,
        };
        let inlined = Frame {
            offset: None,
            inlined: true,
            ..frame.clone()
        };
        let unknown = Frame {
            address: 0x20,
            ..Frame::default()
        };
        let mut out = Vec::new();
        json(
            &mut out,
            &[vec![inlined, frame].into(), vec![unknown].into()],
        );
        let told = |more: &str, end: &str| {
            format!(
                r#"{{"address":"0x10","function":"f\""{more},"module":"m","file":"f.c","line":3{end}}}"#
            )
        };
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(
                r#","stack":[{},{},{{"address":"0x20"}}]"#,
                told("", r#","inlined":true"#),
                told(r#","offset":4"#, "")
            )
        );
        let mut none = Vec::new();
        json(&mut none, &[]);
        assert!(none.is_empty());
    }
}
