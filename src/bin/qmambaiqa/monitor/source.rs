//! Where a stream comes from, and what it is called.

use anyhow::{Context, Result, anyhow, bail};
use gstreamer as gst;
use std::collections::BTreeSet;
use std::path::Path;

/// One stream.
pub struct Source {
    pub uri: String,
    pub name: String,
    /// Parts of the URI that are never printed.
    secrets: Vec<String>,
}

impl Source {
    /// The streams of URIs or files, with the names that were given for the first of them.
    ///
    /// # Errors
    /// GStreamer cannot read from such a URI, a file is not there, or names are too many or the same.
    pub fn all(uris: &[String], names: &[String]) -> Result<Vec<Self>> {
        if names.len() > uris.len() {
            bail!("{} names for {} streams", names.len(), uris.len());
        }
        let mut taken = BTreeSet::new();
        let mut sources = Vec::new();
        for (i, text) in uris.iter().enumerate() {
            let mut source = Self::parse(text)?;
            if let Some(name) = names.get(i) {
                source.name.clone_from(name);
            }
            if !taken.insert(source.name.clone()) {
                bail!("two streams are called {}: tell them apart with --name", source.name);
            }
            sources.push(source);
        }
        Ok(sources)
    }

    fn parse(text: &str) -> Result<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            let path = Path::new(text).canonicalize().with_context(|| format!("{text}: neither a URI nor a file"))?;
            let file = path.metadata().with_context(|| text.to_owned())?;
            if file.is_dir() {
                bail!("{text}: a folder; name the files in it");
            }
            if file.is_file() && file.len() == 0 {
                bail!("{text}: the file is empty");
            }
            let uri = gst::glib::filename_to_uri(&path, None).with_context(|| text.to_owned())?;
            return Ok(Self { uri: uri.to_string(), name: text.to_owned(), secrets: Vec::new() });
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (path, query) = path.split_once(['?', '#']).unwrap_or((path, ""));
        let name = format!("{scheme}://{host}{path}");
        let password = user.split_once(':').map_or("", |(_, password)| password);
        // As they stand, and as GStreamer's elements may have decoded them.
        let raw = [user, password, query].into_iter().filter(|secret| !secret.is_empty());
        let secrets = raw.flat_map(|secret| {
            let decoded = gst::glib::uri_unescape_string(secret, None::<&str>).map(|decoded| decoded.to_string());
            [Some(secret.to_owned()), decoded].into_iter().flatten()
        });
        let source = Self { uri: text.to_owned(), secrets: secrets.collect(), name };
        gst::Element::make_from_uri(gst::URIType::Src, text, None)
            .map_err(|e| anyhow!("{}: GStreamer cannot read from it: {}", source.name, source.redact(e.message())))?;
        Ok(source)
    }

    /// A text without what is secret.
    pub fn redact(&self, text: &str) -> String {
        let text = text.replace(&self.uri, &self.name);
        self.secrets.iter().fold(text, |text, secret| text.replace(secret, "***"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_neither_in_names_nor_in_errors() {
        gst::init().unwrap();
        let uri = "http://me:p%40ss@host:81/live/a.m3u8?token=abc";
        let source = Source::parse(uri).unwrap();
        assert_eq!((source.uri.as_str(), source.name.as_str()), (uri, "http://host:81/live/a.m3u8"));
        let text = source.redact(&format!("{uri}: p@ss was refused, so was token=abc"));
        assert_eq!(text, "http://host:81/live/a.m3u8: *** was refused, so was ***");
        let error = Source::parse("nowhere://me:secret@host/").err().unwrap().to_string();
        assert!(error.contains("nowhere://host/") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn names_tell_streams_apart() {
        gst::init().unwrap();
        let uris = ["http://host/?a=1".to_owned(), "http://host/?a=2".to_owned()];
        let error = Source::all(&uris, &[]).err().unwrap().to_string();
        assert!(error.contains("http://host/") && error.contains("--name"), "{error}");
        let sources = Source::all(&uris, &["first".into()]).unwrap();
        assert_eq!(sources.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["first", "http://host/"]);
        assert!(Source::all(&uris, &["a".into(), "b".into(), "c".into()]).is_err());
    }
}
