//! What the developer's commands and the tests share: where PostgreSQL is, a private installation of it with the
//! extension inside, and a private server on top. Standard library only, so that it compiles in seconds.

pub mod prefix;
pub mod server;
pub mod upgrade;
pub mod workspace;

/// The query whose rows, a blank line between them, are the body of docs/sql.md.
pub const SURFACE: &str = include_str!("surface.sql");

/// What docs/sql.md says above it.
pub const SURFACE_HEADING: &str = "<!-- not run: written by `cargo xtask docs` from the comments in sql/; edit those -->\n\n\
    # SQL reference\n\nEverything lives in schema `market`; `\\df+ market.*` in psql says the same. Words are defined in \
    [semantics.md](semantics.md).\n\n";
