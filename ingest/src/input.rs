//! Files as they come: plain, gzip, Zstandard, or zip with any number of members. Compression is seen from the first
//! bytes, not from the name.

use crate::feed::Broken;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One stream of bytes to decode: a file, or a member of an archive.
pub struct Input<'r> {
    /// `FILE` or `FILE!MEMBER`, as shown to people and stored in dead letters.
    pub label: String,
    /// The name the format and the symbol are guessed from: that of the member without compression endings.
    pub name: String,
    /// The file itself, when it is not packed: for formats that are read from their end.
    pub file: Option<PathBuf>,
    /// The bytes, decompressed.
    pub reader: Box<dyn Read + 'r>,
}

/// What the first bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As is.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// A zip archive.
    Zip,
}

/// Bytes of a magic number, and what they mean.
pub fn packing(first: &[u8]) -> Packing {
    match first {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
        // A skippable frame in front: what Databento's first format (.dbz) begins with.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packing::Zstd,
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Packing::Zip,
        _ => Packing::Plain,
    }
}

/// Opens a file and hands every stream in it to `read`. Stops at the first error of `read`.
///
/// # Errors
/// A file that cannot be opened or unpacked, and whatever `read` returns.
pub fn open(
    path: &Path,
    bytes_read: &Arc<AtomicU64>,
    read: &mut dyn FnMut(Input<'_>) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let cannot = |e: &io::Error| Broken::new(format!("cannot be opened: {e}"));
    let mut file = File::open(path).map_err(|e| cannot(&e))?;
    if file.metadata().map_err(|e| cannot(&e))?.is_dir() {
        return Err(Broken::new("is a directory; name the files in it, such as DIR/*.csv.gz"));
    }
    let mut first = [0u8; 8];
    let got = read_up_to(&mut file, &mut first).map_err(|e| cannot(&e))?;
    file.rewind().map_err(|e| cannot(&e))?;
    let label = path.display().to_string();
    let base = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let counted = Counted { inner: BufReader::with_capacity(1 << 18, file), count: Arc::clone(bytes_read) };
    match packing(&first[..got]) {
        Packing::Zip => members(counted, &label, read),
        packing => {
            let file = (packing == Packing::Plain).then(|| path.to_path_buf());
            read(Input { label, name: stem(&base), file, reader: unpack(packing, counted)? })
        }
    }
}

/// A reader over packed bytes; packing inside packing (a `.csv.gz` in a zip) is undone once.
fn unpack<'r, R: Read + 'r>(packing: Packing, reader: R) -> Result<Box<dyn Read + 'r>, Broken> {
    Ok(match packing {
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(reader)
                .map_err(|e| Broken::new(format!("cannot be read as Zstandard: {e}")))?;
            Box::new(decoder)
        }
        Packing::Plain | Packing::Zip => Box::new(reader),
    })
}

/// Every member of a zip archive. An archive cut short has no directory at its end: its members are then read from the
/// front until they break off, so that what is there is not lost.
fn members<R: Read + Seek>(
    mut reader: R,
    label: &str,
    read: &mut dyn FnMut(Input<'_>) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let mut archive = match zip::ZipArchive::new(&mut reader) {
        Ok(archive) => archive,
        Err(_) => return members_until_broken(reader, label, read),
    };
    let mut names: Vec<(String, usize)> = (0..archive.len())
        .filter_map(|i| {
            Some((archive.name_for_index(i)?.map_or_else(|_| format!("member {i}"), |n| n.into_owned()), i))
        })
        .collect();
    names.sort();
    let mut broken: Option<Broken> = None;
    for (name, index) in names {
        if name.ends_with('/') {
            continue;
        }
        let result = match archive.by_index(index) {
            Ok(member) => member_input(label, &name, member).and_then(&mut *read),
            Err(e) => Err(Broken::new(format!("member {name} cannot be unpacked: {e}"))),
        };
        // Other members are still good.
        if let Err(why) = result {
            broken.get_or_insert(why);
        }
    }
    broken.map_or(Ok(()), Err)
}

fn members_until_broken<R: Read + Seek>(
    mut reader: R,
    label: &str,
    read: &mut dyn FnMut(Input<'_>) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let truncated = || Broken::new("is a zip archive without a directory at its end: it is truncated");
    reader.rewind().map_err(|e| Broken::read(0, &e))?;
    while let Ok(Some(member)) = zip::read::read_zipfile_from_stream(&mut reader) {
        let name = member.name().map_or_else(|_| "member".to_string(), |n| n.into_owned());
        member_input(label, &name, member).and_then(&mut *read)?;
    }
    Err(truncated())
}

fn member_input<'r>(label: &str, name: &str, mut member: impl Read + 'r) -> Result<Input<'r>, Broken> {
    let mut first = vec![0u8; 8];
    let got = read_up_to(&mut member, &mut first).map_err(|e| Broken::read(0, &e))?;
    first.truncate(got);
    let packed = packing(&first);
    if packed == Packing::Zip {
        return Err(Broken::new(format!("member {name} is itself a zip archive; unpack it first")));
    }
    let whole = io::Cursor::new(first).chain(member);
    let base = name.rsplit('/').next().unwrap_or(name);
    Ok(Input { label: format!("{label}!{name}"), name: stem(base), file: None, reader: unpack(packed, whole)? })
}

/// The name without endings that only say how a file is packed.
fn stem(name: &str) -> String {
    let mut name = name;
    for ending in [".gz", ".gzip", ".zst", ".zstd", ".zip"] {
        if let Some(short) = name.len().checked_sub(ending.len()).filter(|at| name.is_char_boundary(*at))
            && name[short..].eq_ignore_ascii_case(ending)
        {
            name = &name[..short];
        }
    }
    name.to_string()
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match reader.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// Counts packed bytes for the progress bar.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Each stream's ending and bytes.
    type Streams = Vec<(String, Vec<u8>)>;

    fn collect(bytes: &[u8], ending: &str) -> (Streams, Result<(), Broken>) {
        let mut file = tempfile::Builder::new().prefix("t").suffix(ending).tempfile().expect("a temporary file");
        file.write_all(bytes).expect("room for a few bytes");
        let mut seen = vec![];
        let result = open(file.path(), &Arc::default(), &mut |mut input| {
            let mut bytes = vec![];
            let outcome = input.reader.read_to_end(&mut bytes);
            seen.push((input.name.split_once('.').map_or(String::new(), |n| n.1.to_string()), bytes));
            outcome.map(drop).map_err(|e| Broken::read(0, &e))
        });
        (seen, result)
    }

    #[test]
    fn gzip_zstd_and_zip_are_seen_from_their_bytes() {
        let text = b"a,b\n1,2\n".to_vec();
        let mut gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        gz.write_all(&text).expect("memory");
        let gz = gz.finish().expect("memory");
        let zst = zstd::encode_all(&text[..], 1).expect("memory");
        let mut zip = zip::ZipWriter::new(io::Cursor::new(vec![]));
        zip.start_file("t.csv", zip::write::SimpleFileOptions::default()).expect("memory");
        zip.write_all(&text).expect("memory");
        let zip = zip.finish().expect("memory").into_inner();
        for bytes in [&text, &gz, &zst, &zip] {
            let (seen, result) = collect(bytes, ".csv");
            assert_eq!((seen, result), (vec![("csv".to_string(), text.clone())], Ok(())));
        }
    }

    #[test]
    fn a_truncated_gzip_gives_its_beginning_and_an_error() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|i| format!("{i}\n").into_bytes()).collect();
        let mut gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        gz.write_all(&text).expect("memory");
        let gz = gz.finish().expect("memory");
        let (seen, result) = collect(&gz[..gz.len() / 2], ".csv.gz");
        assert!(!seen[0].1.is_empty() && text.starts_with(&seen[0].1));
        assert!(result.expect_err("half a file").reason.contains("truncated"));
    }
}
