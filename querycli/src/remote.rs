//! Files in object stores: `s3://bucket/trades/`, `gs://bucket/spy.parquet`, `az://container/spy.csv.gz`.
//!
//! Who asks is said by the environment, under the names that the stores' own tools use, and never shown.

use crate::error::{Error, Result, causes};
use crate::files::{self, KINDS, Packed, Source, kind_of, partitions};
use crate::guard::each;
use crate::plausible::{EMPTY, broken, parquet};
use crate::separated::{HEAD, separated};
use crate::tables::Market;
use datafusion::catalog::TableProvider;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::context::SessionContext;
use futures_util::{FutureExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Whether a name is that of something elsewhere, which has a scheme.
pub fn is_remote(name: &Path) -> bool {
    name.to_str().and_then(|name| name.split_once("://")).is_some_and(|(scheme, _)| {
        scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// Whether the part of a URL behind its scheme holds a password.
pub fn has_password(rest: &str) -> bool {
    rest.split('/').next().unwrap_or_default().split_once('@').is_some_and(|(user, _)| user.contains(':'))
}

/// A store that may be asked.
struct Place<'a> {
    /// As the user wrote it.
    shown: &'a str,
    kind: Kind,
    store: Arc<dyn ObjectStore>,
}

/// The makes of stores; the archive asks them, too (archive/place/store.rs).
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    S3,
    Google,
    Azure,
}

impl Kind {
    /// Of a URL's scheme.
    pub fn of(scheme: &str) -> Option<Kind> {
        match scheme {
            "s3" | "s3a" => Some(Kind::S3),
            "gs" => Some(Kind::Google),
            "az" | "abfs" | "abfss" => Some(Kind::Azure),
            _ => None,
        }
    }

    /// What says who asks.
    pub fn credentials(self) -> &'static str {
        match self {
            Kind::S3 => {
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION say who asks and where; AWS_SKIP_SIGNATURE=true reads what is public, AWS_ENDPOINT_URL names another server"
            }
            Kind::Google => {
                "GOOGLE_APPLICATION_CREDENTIALS names the file of a service account or of a login; GOOGLE_SKIP_SIGNATURE=true reads what is public"
            }
            Kind::Azure => {
                "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY say who asks; AZURE_SKIP_SIGNATURE=true reads what is public"
            }
        }
    }

    /// The store of a URL, as the environment describes it.
    ///
    /// # Errors
    /// A URL or an environment that is none.
    pub fn store(self, url: &str) -> object_store::Result<Arc<dyn ObjectStore>> {
        // Who waits at a prompt wants to know soon that a server is not there.
        let retry = || RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() };
        Ok(match self {
            Kind::S3 => Arc::new(AmazonS3Builder::from_env().with_url(url).with_retry(retry()).build()?),
            Kind::Google => Arc::new(GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(retry()).build()?),
            Kind::Azure => Arc::new(MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retry()).build()?),
        })
    }
}

impl Place<'_> {
    fn failed(&self, error: &object_store::Error) -> Error {
        use object_store::Error as E;
        let shown = self.shown;
        match error {
            E::NotFound { .. } => Error::question(format!("there is no {shown}"), "a folder's name ends with /"),
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                Error::world(format!("{shown} may not be read: the store refuses"), self.kind.credentials())
            }
            other => Error::world(format!("{shown} cannot be read: {}", causes(other)), self.kind.credentials()),
        }
    }

    /// The data files below a prefix, sorted; hidden ones and those named with a `_` are none.
    async fn below(&self, folder: &Key) -> Result<Vec<ObjectMeta>> {
        let all = self.store.list(Some(folder)).try_collect::<Vec<_>>().await.map_err(|error| self.failed(&error))?;
        let shows = |key: &Key| {
            key.prefix_match(folder).is_some_and(|mut parts| !parts.any(|p| p.as_ref().starts_with(['.', '_'])))
        };
        let mut objects: Vec<ObjectMeta> = all.into_iter().filter(|object| shows(&object.location)).collect();
        objects.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(objects)
    }

    /// Refuses an object that can be none of its kind.
    async fn plausible(&self, object: &ObjectMeta, kind: files::Kind, shown: String) -> Result<()> {
        if object.size == 0 && kind != files::Kind::Json {
            return Err(broken(&shown, EMPTY));
        }
        if kind != files::Kind::Parquet {
            return Ok(());
        }
        let read = |range| {
            let bytes = self.store.get_range(&object.location, range);
            bytes.map(|bytes| bytes.map_err(|error| self.failed(&error))).boxed()
        };
        parquet(object.size, &read).await?.map_or(Ok(()), |why| Err(broken(&shown, &why)))
    }

    /// Copies objects into a folder, in their layout.
    async fn copy(&self, base: &Key, objects: &[ObjectMeta], into: &Path) -> Result<()> {
        let unwritable =
            |error: std::io::Error| Error::world(format!("cannot write a copy of {}: {error}", self.shown), "");
        for key in objects.iter().map(|object| &object.location) {
            let inner: PathBuf = match key.prefix_match(base) {
                Some(parts) => parts.map(|part| part.as_ref().to_owned()).collect(),
                None => PathBuf::new(),
            };
            let name = if inner.as_os_str().is_empty() { key.filename().unwrap_or_default().into() } else { inner };
            let target = into.join(name);
            std::fs::create_dir_all(target.parent().unwrap_or(into)).map_err(unwritable)?;
            let mut file = std::fs::File::create(&target).map_err(unwritable)?;
            let mut pieces = self.store.get(key).await.map_err(|error| self.failed(&error))?.into_stream();
            while let Some(piece) = pieces.try_next().await.map_err(|error| self.failed(&error))? {
                std::io::Write::write_all(&mut file, &piece).map_err(unwritable)?;
            }
        }
        Ok(())
    }
}

/// Opens an object, or a folder of objects of one kind.
///
/// # Errors
/// A scheme that is no store's, a store that refuses or is not there, objects of another kind.
pub async fn open(context: &SessionContext, market: &Market, asked: &Path) -> Result<Arc<dyn TableProvider>> {
    let shown = asked.to_str().unwrap_or_default();
    let (scheme, rest) = shown.split_once("://").unwrap_or_default();
    if scheme == "file" {
        return Box::pin(files::open(context, market, Path::new(rest))).await;
    }
    let Some(kind) = Kind::of(scheme) else {
        return Err(Error::question(
            format!("querycli does not read from {scheme}://"),
            "it reads s3://bucket/..., gs://bucket/..., az://container/... and files of this machine",
        ));
    };
    if has_password(rest) {
        // Not repeated: it is shown in lists of processes already.
        return Err(Error::question("there is a password in the name of a file", kind.credentials()));
    }
    // What has no file's ending is a folder.
    let last = rest.rsplit('/').next().unwrap_or_default();
    let text = match last.is_empty() || kind_of(last).is_some() {
        true => shown.to_owned(),
        false => format!("{shown}/"),
    };
    let url = ListingTableUrl::parse(&text)?;
    let store = kind.store(&text);
    let store = store.map_err(|error| Error::question(format!("{shown}: {}", causes(&error)), kind.credentials()))?;
    context.register_object_store(url.object_store().as_ref(), Arc::clone(&store));
    let place = Place { shown, kind, store };
    let folder = text.ends_with('/');
    let objects = match folder {
        true => place.below(url.prefix()).await?,
        false => vec![place.store.head(url.prefix()).await.map_err(|error| place.failed(&error))?],
    };
    let kinds: Option<Vec<_>> =
        objects.iter().map(|object| kind_of(object.location.filename().unwrap_or_default())).collect();
    let kinds = kinds.unwrap_or_default();
    let Some((what, extension, _)) = kinds.first().cloned() else {
        return Err(Error::question(format!("{shown} has files of no kind querycli reads, or none"), KINDS));
    };
    if kinds.iter().any(|(other, end, _)| (*other, end) != (what, &extension)) {
        return Err(Error::question(
            format!("{shown} has files of several kinds"),
            "name a folder of one kind, or its files",
        ));
    }
    // What must be unpacked is copied; so is Arrow, whose schema DataFusion does not find in a stream of pieces.
    if what == files::Kind::Arrow || kinds.iter().any(|(_, _, packed)| *packed != Packed::No) {
        let copies = tempfile::tempdir().map_err(|error| Error::world(format!("no temporary folder: {error}"), ""))?;
        place.copy(url.prefix(), &objects, copies.path()).await?;
        let local = match folder {
            true => copies.path().to_owned(),
            false => copies.path().join(last),
        };
        let table = Box::pin(files::local(context, market, &local, shown)).await;
        market.keep(copies);
        return table;
    }
    market.names.place(url.clone(), shown);
    // an empty one among others has no rows to miss
    let mut asked = Vec::new();
    for object in objects.iter().filter(|object| !folder || object.size > 0) {
        let shown = market.names.of(&url.object_store(), &object.location);
        asked.push(place.plausible(object, what, shown).boxed());
    }
    each(asked).await?;
    // an empty one tells nothing
    let first = objects.iter().find(|object| object.size > 0).unwrap_or(&objects[0]);
    let head = match what {
        files::Kind::Json | files::Kind::Separated(_) if first.size > 0 => {
            let head = place.store.get_range(&first.location, 0..first.size.min(HEAD)).await;
            head.map_err(|error| place.failed(&error))?.to_vec()
        }
        _ => Vec::new(),
    };
    let what = separated(what, &head, shown)?;
    let root = Path::new(url.prefix().as_ref());
    let source = Source {
        path: text.clone(),
        kind: what,
        extension,
        columns: if folder { partitions(root, Path::new(first.location.as_ref())) } else { Vec::new() },
        members: match folder {
            true => {
                let url = |object: &ObjectMeta| format!("{}{}", url.object_store().as_str(), object.location);
                objects.iter().map(url).collect()
            }
            false => Vec::new(),
        },
        array: files::is_array(&head),
    };
    files::read(context, market, &source, shown).await
}
