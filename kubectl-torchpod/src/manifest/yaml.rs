//! YAML to nodes. Apart from the parser's own tree, since that has neither the second of two equal keys nor the
//! documents before an error.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use super::node::{Entry, Mark, Node, Span, Value};
use super::scalar;

/// Deeper than any object of Kubernetes, and no danger to what walks a document.
const DEPTH: usize = 100;
/// How many nodes aliases may add to a file: a few lines of them can stand for billions.
const COPIES: usize = 1_000_000;

/// What a file holds, up to the first error.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) documents: Vec<Document>,
    pub(super) error: Option<Broken>,
}

#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: Node,
    pub(super) repeated: Vec<Repeated>,
}

/// A key that stands in its mapping for the second time.
#[derive(Debug, Clone)]
pub(super) struct Repeated {
    pub(super) key: String,
    pub(super) at: Span,
    /// The line of the first.
    pub(super) first: usize,
}

/// Why a file cannot be read on.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    pub(super) at: Span,
    pub(super) why: String,
}

pub(super) fn parse(text: &str) -> Stream {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text.trim_start_matches('\u{feff}')) {
        let taken = match event {
            Ok((event, span)) => builder.take(event, Span { start: mark(span.start), end: mark(span.end) }),
            Err(error) => Err(broken(&error)),
        };
        if let Err(error) = taken {
            builder.stream.error = Some(error);
            break;
        }
    }
    builder.stream
}

fn mark(marker: Marker) -> Mark {
    Mark { line: marker.line(), column: marker.col() }
}

fn broken(error: &ScanError) -> Broken {
    let start = mark(*error.marker());
    Broken { at: Span { start, end: start }, why: error.info().to_owned() }
}

/// A collection whose end has not come yet.
struct Open {
    span: Span,
    anchor: usize,
    content: Content,
}

enum Content {
    Seq(Vec<Node>),
    /// What is there, and the key that waits for its value.
    Map(Vec<Entry>, Option<(String, Span)>),
}

#[derive(Default)]
struct Builder {
    stream: Stream,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    repeated: Vec<Repeated>,
    copied: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Broken> {
        match event {
            Event::SequenceStart(anchor, _) => self.open(span, anchor, Content::Seq(Vec::new())),
            Event::MappingStart(anchor, _) => self.open(span, anchor, Content::Map(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Scalar(text, style, anchor, tag) => {
                let core = tag.filter(|tag| tag.is_yaml_core_schema());
                let is_text = style != ScalarStyle::Plain || core.is_some_and(|tag| tag.suffix == "str");
                self.scalar(text.into_owned(), is_text, anchor, span)
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| Broken { at: span, why: "an alias inside of its own anchor".into() })?;
                self.copied += size(&node);
                if self.copied > COPIES {
                    return Err(Broken { at: span, why: "aliases stand for too much".into() });
                }
                self.put(node, 0)
            }
            Event::DocumentStart(_) | Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => Ok(()),
        }
    }

    fn open(&mut self, span: Span, anchor: usize, content: Content) -> Result<(), Broken> {
        if self.open.len() >= DEPTH {
            return Err(Broken { at: span, why: format!("nested deeper than {DEPTH} levels") });
        }
        if matches!(self.open.last(), Some(Open { content: Content::Map(_, None), .. })) {
            return Err(Broken { at: span, why: "a key must be a text".into() });
        }
        self.open.push(Open { span, anchor, content });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Broken> {
        let Some(Open { span, anchor, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::Seq(items) => Value::Seq(items),
            Content::Map(entries, _) => Value::Map(self.merged(entries)),
        };
        self.put(Node { span: Span { start: span.start, end: end.start }, value }, anchor)
    }

    fn scalar(&mut self, text: String, is_text: bool, anchor: usize, span: Span) -> Result<(), Broken> {
        if let Some(Open { content: Content::Map(_, key @ None), .. }) = self.open.last_mut() {
            *key = Some((text, span));
            return Ok(());
        }
        let value = if is_text { Value::Text(text) } else { scalar::plain(&text) };
        self.put(Node { span, value }, anchor)
    }

    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Broken> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            Some(Content::Seq(items)) => items.push(node),
            Some(Content::Map(entries, key)) => {
                let Some((key, key_span)) = key.take() else {
                    return Err(Broken { at: node.span, why: "a key must be a text".into() });
                };
                entries.push(Entry { key, key_span, node });
            }
            None => {
                let repeated = std::mem::take(&mut self.repeated);
                self.stream.documents.push(Document { root: node, repeated });
                self.anchors.clear();
            }
        }
        Ok(())
    }

    /// Notes the keys that come twice, and puts what `<<` brings behind the mapping's own.
    fn merged(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut lines: HashMap<String, usize> = HashMap::new();
        let (merges, mut own): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.key == "<<");
        for entry in &own {
            let line = entry.key_span.start.line;
            if let Some(first) = lines.insert(entry.key.clone(), line) {
                self.repeated.push(Repeated { key: entry.key.clone(), at: entry.key_span, first });
            }
        }
        for merge in merges {
            let brought = if merge.node.items().is_empty() { vec![merge.node] } else { merge.node.items().to_vec() };
            for entry in brought.iter().flat_map(Node::entries) {
                if !lines.contains_key(&entry.key) {
                    lines.insert(entry.key.clone(), entry.key_span.start.line);
                    own.push(entry.clone());
                }
            }
        }
        own
    }
}

fn size(node: &Node) -> usize {
    let below: usize = node.items().iter().map(size).sum();
    1 + below + node.entries().iter().map(|entry| size(&entry.node)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Document {
        let stream = parse(text);
        assert!(stream.error.is_none(), "{:?}", stream.error);
        stream.documents.into_iter().next().unwrap()
    }

    #[test]
    fn every_node_knows_its_place() {
        let document = only("a:\n  - b: 8080\n");
        let entry = &document.root.get("a").unwrap().items()[0].entries()[0];
        assert_eq!(entry.key_span.start, Mark { line: 2, column: 4 });
        assert_eq!(entry.node.span.start, Mark { line: 2, column: 7 });
        assert_eq!(entry.node.span.end, Mark { line: 2, column: 11 });
    }

    #[test]
    fn what_stands_before_an_error_is_read() {
        let stream = parse("a: 1\n---\nb: [\n");
        assert_eq!(stream.documents.len(), 1);
        assert!(stream.error.is_some());
    }

    #[test]
    fn a_repeated_key_is_noted_with_the_line_of_the_first() {
        let document = only("a: 1\nb: 2\na: 3\n");
        assert_eq!(document.repeated.len(), 1);
        assert_eq!((document.repeated[0].first, document.repeated[0].at.start.line), (1, 3));
    }

    #[test]
    fn merges_bring_what_is_not_there() {
        let document = only("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n");
        assert_eq!(document.root.get("y").unwrap().json(), serde_json::json!({"a": 1, "b": 3}));
    }

    #[test]
    fn neither_depth_nor_aliases_can_hurt() {
        assert!(parse(&"[".repeat(100_000)).error.is_some());
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..20 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{below}]\n");
        }
        assert!(parse(&bomb).error.is_some());
    }
}
