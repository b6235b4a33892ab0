//! Sites and their states. Pure: decides, never acts.
