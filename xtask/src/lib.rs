//! What the developer's commands and the tests share: where PostgreSQL is, a private installation of it with the
//! extension inside, and a private server on top. Standard library only, so that it compiles in seconds.

pub mod prefix;
pub mod server;
pub mod workspace;
