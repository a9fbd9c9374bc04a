//! How a body is compressed while it is written: fast rather than small, it crosses one network once.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::ranges;
use crate::metric::Snapshot;

/// The fastest level. Its window is half a megabyte; Prometheus accepts 8 MiB (`zstdMaxWindowSize` of its scrape package).
const ZSTD_LEVEL: i32 = 1;

/// A coding of HTTP that a scraper can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Not compressed.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878. Prometheus asks for it with `--enable-feature=zstd-scrape`.
    Zstd,
}

impl Coding {
    /// The coding that an `Accept-Encoding` header prefers: the one with the highest quality, at equal quality zstd before
    /// gzip before none.
    pub fn negotiate(accept_encoding: &str) -> Self {
        let all = [Coding::Identity, Coding::Gzip, Coding::Zstd];
        let quality = |coding: Coding| {
            let named = |name: &str| {
                let ranges = ranges(accept_encoding);
                let named = ranges.filter(|range| range.name.eq_ignore_ascii_case(name));
                named.map(|range| range.quality).max()
            };
            match coding {
                // Acceptable without being named, but to nothing else.
                Coding::Identity => named("identity").unwrap_or(0),
                _ => named(coding.name()).or_else(|| named("*")).unwrap_or(0),
            }
        };
        let best = all.into_iter().max_by_key(|coding| quality(*coding));
        best.filter(|coding| quality(*coding) > 0)
            .unwrap_or(Coding::Identity)
    }

    /// Its name in HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
        }
    }
}

/// A scrape's body while it is written.
pub struct Body(Encoder);

enum Encoder {
    Identity(Vec<u8>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Zstd(Box<ZstdEncoder<'static, Vec<u8>>>),
}

impl Body {
    /// An empty one.
    pub fn new(coding: Coding) -> Self {
        Self(match coding {
            Coding::Identity => Encoder::Identity(Vec::new()),
            Coding::Gzip => {
                Encoder::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::fast())))
            }
            Coding::Zstd => {
                let encoder = in_memory(ZstdEncoder::new(Vec::new(), ZSTD_LEVEL));
                Encoder::Zstd(Box::new(encoder))
            }
        })
    }

    /// Reserves memory for a snapshot, if it is not compressed.
    pub fn reserve(&mut self, snapshot: &Snapshot) {
        if let Encoder::Identity(body) = &mut self.0 {
            let families = snapshot.families.iter();
            let series: usize = families.map(|(_, series)| series.len()).sum();
            body.reserve(4096 + 96 * series);
        }
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Encoder::Identity(body) => body.extend_from_slice(bytes),
            Encoder::Gzip(encoder) => in_memory(encoder.write_all(bytes)),
            Encoder::Zstd(encoder) => in_memory(encoder.write_all(bytes)),
        }
    }

    /// The bytes to be sent.
    pub fn finish(self) -> Vec<u8> {
        match self.0 {
            Encoder::Identity(body) => body,
            Encoder::Gzip(encoder) => in_memory(encoder.finish()),
            Encoder::Zstd(encoder) => in_memory(encoder.finish()),
        }
    }
}

/// What came of writing to a `Vec`, which takes everything.
#[expect(clippy::unreachable, reason = "a Vec takes every write")]
fn in_memory<T>(written: std::io::Result<T>) -> T {
    match written {
        Ok(written) => written,
        Err(error) => unreachable!("writing to memory failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_coding_that_is_wanted() {
        use Coding::{Gzip, Identity, Zstd};
        for (accept, expected) in [
            ("", Identity),
            ("gzip", Gzip),
            ("zstd,gzip", Zstd),
            ("gzip, zstd", Zstd),
            ("zstd;q=0.5, gzip", Gzip),
            ("zstd;q=0, gzip", Gzip),
            ("deflate, GZIP;q=1.0, br;q=0.5", Gzip),
            ("*", Zstd),
            ("zstd;q=0, *", Gzip),
            ("gzip;q=0.000", Identity),
            ("identity, gzip;q=0.5", Identity),
            ("identity;q=0.5, gzip;q=1.0", Gzip),
            ("br", Identity),
        ] {
            assert_eq!(Coding::negotiate(accept), expected, "{accept}");
        }
    }

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut back = Vec::new();
        match coding {
            Coding::Identity => back.extend_from_slice(bytes),
            Coding::Gzip => {
                let mut decoder = flate2::read::GzDecoder::new(bytes);
                decoder.read_to_end(&mut back).unwrap();
            }
            Coding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(bytes).unwrap();
                // Prometheus takes no more.
                decoder.window_log_max(23).unwrap();
                decoder.read_to_end(&mut back).unwrap();
            }
        }
        back
    }

    #[test]
    fn text_becomes_a_tenth() {
        let text = "reading{appliance=\"hsm\"} 1\n".repeat(1000);
        for coding in [Coding::Gzip, Coding::Zstd] {
            let mut body = Body::new(coding);
            text.split_inclusive('\n')
                .for_each(|line| body.push(line.as_bytes()));
            let compressed = body.finish();
            assert!(compressed.len() < text.len() / 10, "{coding:?}");
            assert_eq!(decoded(coding, &compressed), text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn every_coding_gives_back_what_it_took(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        ) {
            for coding in [Coding::Identity, Coding::Gzip, Coding::Zstd] {
                let mut body = Body::new(coding);
                pieces.iter().for_each(|piece| body.push(piece));
                prop_assert_eq!(decoded(coding, &body.finish()), pieces.concat());
            }
        }

        #[test]
        fn no_header_makes_it_panic(header in "[a-z/*;=,.0-9q \"-]{0,60}") {
            Coding::negotiate(&header);
        }
    }
}
