//! Text to a checked probe: the grammar of `-p`. Never sees an address.
