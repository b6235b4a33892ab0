//! Where a probe's name ends. A path may hold `/` and `*`, a Go function `/` too; quotes may hold
//! anything.

/// Bytes of the probe's name that `text` starts with.
pub(super) fn length(text: &str) -> usize {
    let (end, quoted) = plain_end(text);
    let name = text.get(..end).unwrap_or_default();
    if quoted {
        return end;
    }
    // A predicate may follow the last part without a space.
    let last = name.rfind(':').map_or(0, |at| at + 1);
    let part = name.get(last..).unwrap_or_default();
    let Some(slash) = part.find('/').map(|at| last + at).filter(|at| *at > 0) else {
        return end;
    };
    if part.starts_with(['/', '.']) || !name.contains(':') {
        // A path without a function.
        return match name.contains(':') {
            true => end,
            false => slash,
        };
    }
    let after = text.get(end..).unwrap_or_default().trim_start();
    let ends_here = after.is_empty() || after.starts_with([',', '{', '/']);
    let closed = part.len() > 1 && part.ends_with('/');
    match !ends_here || closed {
        true => slash,
        false => end,
    }
}

/// The end at a space, comma or brace outside quotes, and whether the last part is in quotes.
fn plain_end(text: &str) -> (usize, bool) {
    let mut quote = None;
    let mut escaped = false;
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(_) if c == '\n' => return (at, true),
            Some(open) => {
                if c == open {
                    quote = None;
                }
            }
            None => match c {
                '"' | '\'' => {
                    quote = Some(c);
                    quoted = true;
                }
                ',' | '{' | ';' => return (at, quoted),
                c if c.is_whitespace() => return (at, quoted),
                ':' => quoted = false,
                // A predicate behind the quotes.
                '/' if quoted => return (at, true),
                _ => {}
            },
        }
    }
    (text.len(), quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_where_a_reader_would_end_it() {
        for (text, name) in [
            ("BEGIN{", "BEGIN"),
            ("BEGIN/1/{", "BEGIN"),
            ("interval:s:1 {", "interval:s:1"),
            ("u:/bin/bash:readline/pid == 1/ {", "u:/bin/bash:readline"),
            ("u:/bin/bash:readline/pid/{", "u:/bin/bash:readline"),
            ("u:libc:\"f, g\"/1/{", "u:libc:\"f, g\""),
            ("u:\"/a b/c\":f,", "u:\"/a b/c\":f"),
            ("u:/a b", "u:/a"),
            ("u:f+0x10 /1/", "u:f+0x10"),
        ] {
            assert_eq!(text.get(..length(text)), Some(name), "{text}");
        }
    }
}
