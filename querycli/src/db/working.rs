//! A connection whose query runs: whoever gives the answer up also ends the query on the server.

use super::{Db, Login, plain};
use crate::error::Result;
use std::ops::Deref;
use std::sync::Arc;
use tokio_postgres::{Client, NoTls};

/// A connection taken from the pool. [`Working::done`] gives it back; dropping it before cancels what it does.
pub struct Working {
    client: Option<Client>,
    db: Arc<Db>,
}

impl Working {
    pub(super) fn new(client: Client, db: &Arc<Db>) -> Working {
        Working { client: Some(client), db: Arc::clone(db) }
    }

    /// Its answer has ended.
    pub fn done(mut self) {
        if let Some(client) = self.client.take() {
            self.db.give_back(client);
        }
    }
}

impl Deref for Working {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client
            .as_ref()
            .unwrap_or_else(|| unreachable!("only `done` and `drop` take it, and nothing comes after them"))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        // Dropping the client alone would let the query run on to its end: its connection waits for the answer.
        let (Ok(runtime), Ok(server)) = (tokio::runtime::Handle::try_current(), self.db.server()) else { return };
        let login = Arc::clone(&server.login);
        runtime.spawn(async move {
            // A server that cannot be reached has nothing to cancel.
            drop(cancel(&client, &login).await);
        });
    }
}

async fn cancel(client: &Client, login: &Login) -> Result<()> {
    let token = client.cancel_token();
    match plain(login) {
        true => token.cancel_query(NoTls).await?,
        false => token.cancel_query(login.tls.connector()?).await?,
    }
    Ok(())
}
