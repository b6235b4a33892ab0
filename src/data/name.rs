//! A name as it is shown, made when somebody looks: most probes of many are never printed, and
//! demangling them all costs more than arming them.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// A name. Copies share what was made.
#[derive(Clone)]
pub struct Name(Arc<Inner>);

struct Inner {
    given: Box<str>,
    show: Option<fn(&str) -> Option<String>>,
    shown: OnceLock<Option<Box<str>>>,
}

impl Name {
    /// A name that is shown as `show` makes it, or as it is where that gives nothing.
    pub fn shown_by(given: &str, show: fn(&str) -> Option<String>) -> Name {
        Name::new(given, Some(show))
    }

    fn new(given: &str, show: Option<fn(&str) -> Option<String>>) -> Name {
        Name(Arc::new(Inner {
            given: given.into(),
            show,
            shown: OnceLock::new(),
        }))
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        let Inner { given, show, shown } = &*self.0;
        let Some(show) = show else { return given };
        let shown = shown.get_or_init(|| show(given).map(String::into_boxed_str));
        shown.as_deref().unwrap_or(given)
    }
}

impl From<String> for Name {
    fn from(name: String) -> Name {
        Name::new(&name, None)
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Name {
        Name::new(name, None)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_once_for_all_its_copies() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = Name::shown_by("_Z1fv", |given| {
            MADE.fetch_add(1, Ordering::Relaxed);
            (given == "_Z1fv").then(|| "f()".to_owned())
        });
        assert_eq!(MADE.load(Ordering::Relaxed), 0);
        assert_eq!((&*name.clone(), &*name), ("f()", "f()"));
        assert_eq!(MADE.load(Ordering::Relaxed), 1);
        assert_eq!(&*Name::shown_by("g", |_| None), "g");
    }
}
