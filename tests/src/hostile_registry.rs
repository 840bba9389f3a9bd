//! A registry that lies: it serves one good image, and under other tags images with something wrong.
//!
//! What is wrong is a [`Lie`], and its name in lower case is the tag to ask for.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tar::EntryType;

use crate::http_server::{Answer, HttpServer, Request};
use crate::made_image::{Blob, CONFIG_TYPE, Files, MANIFEST_TYPE, MadeImage, digest, noise_layer};

/// The only repository there.
pub const REPOSITORY: &str = "some/liar";
/// So large is a manifest that no client may take.
const HUGE_BYTES: u64 = 100 << 20;
/// So many layers does no image have.
const THOUSANDS: usize = 5000;
/// What a mistaken proxy answers.
const PAGE: &[u8] = b"<!DOCTYPE html><html><body>Please log in to the network</body></html>";

/// What is wrong with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    Nothing,
    /// A layer is other content of the same size.
    LayerDigest,
    /// The manifest says that a layer is longer than it is.
    LayerTooShort,
    /// A layer has more bytes than the manifest says.
    LayerTooLong,
    /// A layer is what its digest says, and the config has another diff id.
    DiffId,
    /// The config has fewer layers than the manifest.
    DiffIdMissing,
    /// The config is no JSON.
    ConfigNoJson,
    /// The manifest is another one than its digest header says.
    ManifestDigest,
    /// The manifest has 100 MB, most of them spaces.
    ManifestHuge,
    /// The same, and nobody says before how much will come.
    ManifestEndless,
    /// The manifest names thousands of layers.
    ManifestOfThousands,
    /// The manifest is a page for people.
    ManifestHtml,
    /// The manifest ends in the middle of itself.
    ManifestTruncated,
    /// The manifest says that a layer has a negative size.
    ManifestNegativeSize,
    /// A layer leads to itself, for ever.
    RedirectLoop,
    /// A layer leads to a file of the client's own machine.
    RedirectToFile,
    /// A layer's connection is reset in its middle, whenever it is asked for.
    Reset,
    /// A layer is a page for people, with success.
    LayerHtml,
    /// A layer is there for nobody.
    LayerMissing,
    /// A layer comes whole, and ends too early as gzip.
    GzipTruncated,
    /// A layer is a gzip stream whose checksum is wrong.
    GzipChecksum,
    /// A layer's tar archive ends in the middle of a file.
    TarTruncated,
    /// A layer has an entry with `..` in its name.
    TarDotDot,
    /// A layer has a hard link to nowhere.
    TarHardLinkToNowhere,
    /// A layer has an entry with a size below zero.
    TarNegativeSize,
    /// A layer has an extended header that claims more than there is.
    TarPaxOverlap,
}

impl Lie {
    /// All but the truth.
    pub const ALL: [Self; 25] = [
        Self::LayerDigest,
        Self::LayerTooShort,
        Self::LayerTooLong,
        Self::DiffId,
        Self::DiffIdMissing,
        Self::ConfigNoJson,
        Self::ManifestDigest,
        Self::ManifestHuge,
        Self::ManifestEndless,
        Self::ManifestOfThousands,
        Self::ManifestHtml,
        Self::ManifestTruncated,
        Self::ManifestNegativeSize,
        Self::RedirectLoop,
        Self::RedirectToFile,
        Self::Reset,
        Self::LayerHtml,
        Self::LayerMissing,
        Self::GzipTruncated,
        Self::GzipChecksum,
        Self::TarTruncated,
        Self::TarDotDot,
        Self::TarHardLinkToNowhere,
        Self::TarNegativeSize,
        Self::TarPaxOverlap,
    ];

    /// Whether a layer is wrong, so that an error should say which.
    #[must_use]
    pub fn is_about_a_layer(self) -> bool {
        let tag = self.tag();
        let parts = ["layer", "redirect", "reset", "gzip", "tar"];
        parts.iter().any(|part| tag.starts_with(part)) || self == Self::DiffId
    }

    /// The tag under which it is served.
    #[must_use]
    pub fn tag(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// How a path is answered.
#[derive(Clone, Debug)]
enum Served {
    Content {
        media_type: String,
        content: Vec<u8>,
    },
    /// With a digest that the registry claims, whatever the content.
    Claimed {
        media_type: String,
        content: Vec<u8>,
        digest: String,
    },
    /// A manifest with spaces up to a size that is told before, or not.
    Spaces {
        told: bool,
    },
    Redirect(String),
    /// The first half, and then the connection is gone.
    Half(Vec<u8>),
    Nothing,
}

/// A running registry.
#[derive(Debug)]
pub struct HostileRegistry {
    server: HttpServer,
    requests: Arc<AtomicUsize>,
}

impl HostileRegistry {
    /// # Panics
    /// If loopback has no port left.
    #[must_use]
    pub fn start() -> Self {
        let mut contents = Contents::default();
        contents.tell(Lie::Nothing);
        Lie::ALL.into_iter().for_each(|lie| contents.tell(lie));
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let server = HttpServer::start(move |request, answer| {
            counted.fetch_add(1, Ordering::Relaxed);
            contents.answer(request, answer);
        });
        Self { server, requests }
    }

    /// The name of the image with this wrong.
    #[must_use]
    pub fn image(&self, lie: Lie) -> String {
        format!("{}/{REPOSITORY}:{}", self.server.address(), lie.tag())
    }

    /// How often it was asked for anything.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// What it serves, by the last part of the path: tags, and digests.
#[derive(Debug, Default)]
struct Contents(BTreeMap<String, Served>);

impl Contents {
    fn answer(&self, request: &Request, answer: &mut Answer) {
        if request.path == "/v2/" {
            answer.send(200, &[("Docker-Distribution-Api-Version", "registry/2.0")], b"{}");
            return;
        }
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let with_body = request.method != "HEAD";
        match self.0.get(name).unwrap_or(&Served::Nothing) {
            Served::Content { media_type, content } => {
                let digest = digest(content);
                send(answer, media_type, &digest, content, with_body);
            }
            Served::Claimed { media_type, content, digest } => {
                send(answer, media_type, digest, content, with_body);
            }
            Served::Spaces { told } => send_spaces(answer, *told, with_body),
            Served::Redirect(target) => {
                answer.send(307, &[("Location", target)], b"");
            }
            Served::Half(content) => {
                answer.send_head(200, &[("Content-Type", "application/octet-stream")], content.len() as u64);
                let _gone = answer.stream.write_all(&content[..content.len() / 2]);
            }
            Served::Nothing => {
                let body =
                    b"{\"errors\":[{\"code\":\"BLOB_UNKNOWN\",\"message\":\"blob unknown to registry\"}]}";
                answer.send(404, &[("Content-Type", "application/json")], body);
            }
        }
    }

    /// Puts the image with this wrong under its tag.
    fn tell(&mut self, lie: Lie) {
        // A layer of its own for each: what is wrong with one is not right because another has it already.
        let layer = noise_layer(lie as u64, 3, 20_000);
        let good = MadeImage::of_layers(std::slice::from_ref(&layer));
        match lie {
            Lie::Nothing => self.add(lie, &good),
            Lie::DiffId | Lie::DiffIdMissing | Lie::ConfigNoJson => self.tell_of_config(lie, good),
            Lie::LayerDigest
            | Lie::LayerTooShort
            | Lie::LayerTooLong
            | Lie::RedirectLoop
            | Lie::RedirectToFile
            | Lie::Reset
            | Lie::LayerHtml
            | Lie::LayerMissing => self.tell_of_blob(lie, &good),
            Lie::ManifestDigest
            | Lie::ManifestHuge
            | Lie::ManifestEndless
            | Lie::ManifestOfThousands
            | Lie::ManifestHtml
            | Lie::ManifestTruncated
            | Lie::ManifestNegativeSize => self.tell_of_manifest(lie, &good),
            Lie::GzipTruncated | Lie::GzipChecksum => {
                let mut image = good;
                let stream = &mut image.layers[0].content;
                if lie == Lie::GzipTruncated {
                    stream.truncate(stream.len() / 2);
                } else {
                    // RFC 1952, section 2.3.1: the checksum stands eight bytes before the end.
                    let checksum = stream.len() - 8;
                    stream[checksum] ^= 1;
                }
                self.add(lie, &MadeImage::assembled(image.layers, image.config));
            }
            Lie::TarTruncated
            | Lie::TarDotDot
            | Lie::TarHardLinkToNowhere
            | Lie::TarNegativeSize
            | Lie::TarPaxOverlap => self.add(lie, &MadeImage::of_layers(&[hostile_tar(lie, layer)])),
        }
    }

    fn tell_of_config(&mut self, lie: Lie, good: MadeImage) {
        let mut config: Value = serde_json::from_slice(&good.config.content).expect("we wrote it");
        match lie {
            Lie::DiffId => config["rootfs"]["diff_ids"] = json!([digest(b"something else")]),
            _missing => config["rootfs"]["diff_ids"] = json!([]),
        }
        let config = match lie {
            Lie::ConfigNoJson => Blob::new(CONFIG_TYPE, PAGE.to_vec()),
            _valid => Blob::json(CONFIG_TYPE, &config),
        };
        self.add(lie, &MadeImage::assembled(good.layers, config));
    }

    fn tell_of_blob(&mut self, lie: Lie, good: &MadeImage) {
        self.add(lie, good);
        let blob = &good.layers[0];
        let mut content = blob.content.clone();
        let served = match lie {
            Lie::LayerDigest => {
                // In the middle, where only a digest notices.
                let middle = content.len() / 2;
                content[middle] ^= 1;
                Served::Content { media_type: blob.media_type.to_owned(), content }
            }
            Lie::LayerTooShort => {
                content.truncate(content.len() - 100);
                Served::Content { media_type: blob.media_type.to_owned(), content }
            }
            Lie::LayerTooLong => {
                content.extend([0; 5000]);
                Served::Content { media_type: blob.media_type.to_owned(), content }
            }
            Lie::RedirectLoop => Served::Redirect(format!("/v2/{REPOSITORY}/blobs/{}", blob.digest())),
            Lie::RedirectToFile => Served::Redirect("file:///etc/passwd".to_owned()),
            Lie::Reset => Served::Half(content),
            Lie::LayerHtml => Served::Content { media_type: "text/html".to_owned(), content: PAGE.to_vec() },
            _missing => Served::Nothing,
        };
        self.0.insert(blob.digest(), served);
    }

    fn tell_of_manifest(&mut self, lie: Lie, good: &MadeImage) {
        self.add(lie, good);
        let mut manifest: Value = serde_json::from_slice(&good.manifest.content).expect("we wrote it");
        let content = |content: Vec<u8>| Served::Content { media_type: MANIFEST_TYPE.to_owned(), content };
        let served = match lie {
            Lie::ManifestDigest => Served::Claimed {
                media_type: MANIFEST_TYPE.to_owned(),
                content: good.manifest.content.clone(),
                digest: digest(b"something else"),
            },
            Lie::ManifestHuge => Served::Spaces { told: true },
            Lie::ManifestEndless => Served::Spaces { told: false },
            Lie::ManifestOfThousands => {
                manifest["layers"] = vec![good.layers[0].descriptor(); THOUSANDS].into();
                content(manifest.to_string().into_bytes())
            }
            Lie::ManifestHtml => {
                Served::Content { media_type: "text/html".to_owned(), content: PAGE.to_vec() }
            }
            Lie::ManifestTruncated => {
                content(good.manifest.content[..good.manifest.content.len() / 2].to_vec())
            }
            _negative => {
                manifest["layers"][0]["size"] = json!(-1);
                content(manifest.to_string().into_bytes())
            }
        };
        self.0.insert(lie.tag(), served);
    }

    fn add(&mut self, lie: Lie, image: &MadeImage) {
        for blob in image.blobs() {
            let served =
                Served::Content { media_type: blob.media_type.to_owned(), content: blob.content.clone() };
            self.0.insert(blob.digest(), served.clone());
            // The manifest is the last.
            self.0.insert(lie.tag(), served);
        }
    }
}

/// A layer with something wrong in its archive, which its digests do not tell.
fn hostile_tar(lie: Lie, mut good: Vec<u8>) -> Vec<u8> {
    match lie {
        Lie::TarTruncated => {
            good.truncate(30_000);
            good
        }
        Lie::TarDotDot => Files::new().file_named_exactly(b"a/../../../etc/passwd", b"mine").tar(),
        Lie::TarHardLinkToNowhere => Files::new().link(EntryType::Link, "a", "no/such/file").tar(),
        Lie::TarNegativeSize => Files::new().file("a", b"content").with_size_field(b"-0000000001\0").tar(),
        // "999 path=b" promises more than the header's own size has.
        _pax => Files::new().extended_header(b"999 path=b\n").file("a", b"content").tar(),
    }
}

fn send(answer: &mut Answer, media_type: &str, digest: &str, content: &[u8], with_body: bool) {
    let headers = [("Content-Type", media_type), ("Docker-Content-Digest", digest)];
    answer.send_head(200, &headers, content.len() as u64);
    if with_body {
        let _gone = answer.stream.write_all(content);
    }
}

/// A manifest that begins like one, and goes on with spaces.
fn send_spaces(answer: &mut Answer, told: bool, with_body: bool) {
    let headers = [("Content-Type", MANIFEST_TYPE)];
    if told {
        answer.send_head(200, &headers, HUGE_BYTES);
    } else {
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {MANIFEST_TYPE}\r\n\r\n");
        let _gone = answer.stream.write_all(head.as_bytes());
    }
    if !with_body {
        return;
    }
    let spaces = vec![b' '; 1 << 20];
    let begun = answer.stream.write_all(b"{\"schemaVersion\": 2,");
    // Until the client has had enough, as it should long before the end.
    let mut sent_bytes = 0;
    while begun.is_ok() && sent_bytes < HUGE_BYTES && answer.stream.write_all(&spaces).is_ok() {
        sent_bytes += spaces.len() as u64;
    }
}
