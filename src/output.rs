//! One file a format, each a [`crate::data::Sink`].
