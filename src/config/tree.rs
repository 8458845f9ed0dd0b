//! YAML text → a tree of nodes that know where they stand. Reads one document completely, so that later stages can report
//! everything that is wrong at once; a syntax error ends it with one diagnostic.
//!
//! Invariants: bounded in bytes, depth and nodes (aliases count as what they expand to), so hostile input ends quickly
//! with a message. Scalars keep their text and whether they were quoted: what type they are is for the schema to say.
//! It knows no configuration key and expands no variables.

use super::diagnose::{Diagnostics, Place, Severity};
use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, Span, Tag};
use std::collections::HashMap;
use std::path::Path;

/// A configuration is written by people; this is far beyond the largest.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
const DEPTH_MAX: usize = 24;
const NODES_MAX: usize = 20_000;

/// A value of the file, and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    pub value: NodeValue,
    pub place: Place,
}

/// A value's form in YAML.
#[derive(Debug, Clone)]
pub enum NodeValue {
    Scalar {
        text: String,
        /// Not quoted, so it may be a number, a boolean or null.
        plain: bool,
    },
    List(Vec<Node>),
    /// Keys are unique; what repeats an earlier key was reported and left out.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping, and where it stands.
#[derive(Debug, Clone)]
pub struct Key {
    pub name: String,
    pub place: Place,
}

impl Node {
    /// Nothing was written, or `null` or `~`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, NodeValue::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub fn get(&self, name: &str) -> Option<&Node> {
        match &self.value {
            NodeValue::Map(entries) => entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node),
            _ => None,
        }
    }
}

/// Reads the only document of `source`. Duplicate keys go to `found` and reading goes on.
///
/// # Errors
/// The one diagnostic that ends reading: bad syntax, or a bound exceeded.
pub fn parse(source: &str, file: &Path, found: &mut Diagnostics) -> Result<Node, Diagnostics> {
    if source.len() as u64 > FILE_BYTES_MAX {
        let advice = "a configuration has at most 1 MiB; is this the right file?";
        return Err(Diagnostics::whole_file(file, "the file is too large", Some(advice)));
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut builder = Builder { source, anchors: HashMap::new(), nodes: 0, stack: Vec::new(), root: None, found };
    let mut documents = 0;
    for event in Parser::new_from_str_with_options(source, options) {
        let step = match event {
            Ok((Event::DocumentStart(..), span)) => {
                documents += 1;
                if documents > 1 {
                    Err(stop(&span, "a second YAML document", "keep one document in a file"))
                } else {
                    Ok(())
                }
            }
            Ok((event, span)) => builder.event(event, &span),
            Err(error) => {
                let place = place_of(error.marker(), 1);
                Err(Stop {
                    place,
                    message: format!("this is not valid YAML: {}", error.info()),
                    advice: Some(syntax_advice(source, place)),
                })
            }
        };
        if let Err(Stop { place, message, advice }) = step {
            let mut fatal = Diagnostics::new(file);
            fatal.push(Severity::Error, place, source, message, advice);
            return Err(fatal);
        }
    }
    match builder.root {
        Some(node) if !node.is_null() => Ok(node),
        _ => Err(Diagnostics::whole_file(
            file,
            "the file is empty",
            Some("a configuration needs at least `listen`, `origins` and `sites`; see conf/README.md"),
        )),
    }
}

/// Why reading ended early.
struct Stop {
    place: Place,
    message: String,
    advice: Option<String>,
}

fn stop(span: &Span, message: &str, advice: &str) -> Stop {
    Stop { place: place_of(&span.start, 1), message: message.to_owned(), advice: Some(advice.to_owned()) }
}

fn place_of(mark: &Marker, length: usize) -> Place {
    Place { line: mark.line().max(1), column: mark.col() + 1, length: length.max(1) }
}

fn place(span: &Span) -> Place {
    let one_line = span.start.line() == span.end.line();
    place_of(&span.start, if one_line { span.end.col().saturating_sub(span.start.col()) } else { 1 })
}

fn syntax_advice(source: &str, place: Place) -> String {
    let line = source.lines().nth(place.line - 1).unwrap_or_default();
    let advice = if line.contains('\t') {
        "YAML is indented with spaces; this line has a tab"
    } else if line.contains("${") {
        // `{ token: ${NAME} }`: to YAML the variable's brace opens another mapping.
        "within {…} or […] a variable needs quotes: \"${NAME}\""
    } else if line.contains("]:") {
        "an IPv6 address in brackets needs quotes: \"[::]:8080\""
    } else {
        "keys of one block begin in the same column; a value with `: ` or ` #` in it needs quotes; a bracket or a quote in the \
         lines above may be left open"
    };
    advice.to_owned()
}

/// A collection that is still open.
enum Open {
    List { items: Vec<Node>, place: Place, anchor: usize },
    Map { entries: Vec<(Key, Node)>, key: Option<Key>, skip: bool, place: Place, anchor: usize },
}

struct Builder<'a> {
    source: &'a str,
    /// Complete nodes by anchor, with how many nodes they hold.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    stack: Vec<Open>,
    root: Option<Node>,
    found: &'a mut Diagnostics,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text_tag = known_tag(tag.as_deref(), span)?;
                let plain = style == ScalarStyle::Plain && !text_tag;
                let value = NodeValue::Scalar { text: text.into_owned(), plain };
                self.complete(Node { value, place: place(span) }, anchor, 1, span)
            }
            Event::Alias(target) => {
                let Some((node, count)) = self.anchors.get(&target).cloned() else {
                    return Err(stop(span, "an alias inside its own anchor", "write the value out here"));
                };
                self.complete(node, 0, count, span)
            }
            Event::SequenceStart(_, anchor, tag) => {
                known_tag(tag.as_deref(), span)?;
                self.open(Open::List { items: Vec::new(), place: place(span), anchor }, span)
            }
            Event::MappingStart(_, anchor, tag) => {
                known_tag(tag.as_deref(), span)?;
                self.open(Open::Map { entries: Vec::new(), key: None, skip: false, place: place(span), anchor }, span)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Open::List { items, place, anchor }) => {
                    self.complete(Node { value: NodeValue::List(items), place }, anchor, 1, span)
                }
                Some(Open::Map { entries, place, anchor, .. }) => {
                    self.complete(Node { value: NodeValue::Map(entries), place }, anchor, 1, span)
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn open(&mut self, open: Open, span: &Span) -> Result<(), Stop> {
        if let Some(Open::Map { key: None, .. }) = self.stack.last() {
            return Err(stop(
                span,
                "a key must be plain text",
                "a list or a mapping cannot be a key; did you forget quotes around a value with `{` or `[`?",
            ));
        }
        if self.stack.len() >= DEPTH_MAX {
            return Err(stop(span, "nested too deeply", "no key of this file lies deeper than 24 levels"));
        }
        self.stack.push(open);
        Ok(())
    }

    fn complete(&mut self, node: Node, anchor: usize, count: usize, span: &Span) -> Result<(), Stop> {
        self.nodes += count;
        if self.nodes > NODES_MAX {
            return Err(stop(span, "too many values", "this file (aliases expanded) holds more than 20000 values"));
        }
        if anchor != 0 {
            let count = count_nodes(&node);
            self.anchors.insert(anchor, (node.clone(), count));
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, skip, .. }) => match key.take() {
                Some(complete) if !*skip => entries.push((complete, node)),
                Some(_) => *skip = false,
                None => {
                    let NodeValue::Scalar { text, .. } = node.value else {
                        return Err(stop(span, "a key must be plain text", "a list or a mapping cannot be a key"));
                    };
                    let new = Key { name: text, place: node.place };
                    if let Some((first, _)) = entries.iter().find(|(known, _)| known.name == new.name) {
                        *skip = true;
                        let message = format!("`{}` is given twice", super::units::excerpt(&new.name));
                        let advice = format!("it already stands in line {}; keep one", first.place.line);
                        self.found.push(Severity::Error, new.place, self.source, message, Some(advice));
                    }
                    *key = Some(new);
                }
            },
        }
        Ok(())
    }
}

fn count_nodes(node: &Node) -> usize {
    1 + match &node.value {
        NodeValue::Scalar { .. } => 0,
        NodeValue::List(items) => items.iter().map(count_nodes).sum(),
        NodeValue::Map(entries) => entries.iter().map(|(_, node)| count_nodes(node)).sum(),
    }
}

/// Whether the tag says "text, whatever it looks like"; other tags than YAML's own are refused.
fn known_tag(tag: Option<&Tag>, span: &Span) -> Result<bool, Stop> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema_tag("str") => Ok(true),
        Some(tag) if tag.core_suffix().is_some() => Ok(false),
        Some(_) => {
            Err(stop(span, "tags are not supported", "remove the word that begins with `!`, or quote the value"))
        }
    }
}
