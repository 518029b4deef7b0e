//! From the text of an expression to its tree, by recursive descent. Every error says at which character it stands and what was expected.

use super::{LONGEST_EXPRESSION, LONGEST_WORD, Node, is_value};

/// Parentheses and negations inside each other, at most.
const DEEPEST: u32 = 32;

/// The text is not an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {character} of the label expression: {problem}")]
pub struct LabelError {
    /// Where, counted from 1.
    pub character: usize,
    /// What is wrong there.
    pub problem: Problem,
}

impl LabelError {
    pub(super) fn too_long() -> Self {
        Self {
            character: 1,
            problem: Problem::TooLong,
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Something else stands there.
    #[error("{expected} is needed, {found} stands there")]
    Expected {
        /// What could stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// No `"` follows.
    #[error("the quote is not closed: a second \" is needed")]
    OpenQuote,
    /// A name or value that no label has.
    #[error(
        "{word:?} cannot be in a label: at most {LONGEST_WORD} bytes without control characters are needed"
    )]
    Word {
        /// What stands there.
        word: String,
    },
    /// A text that is too long.
    #[error(
        "the expression has more than {LONGEST_EXPRESSION} bytes, written with a blank between its words"
    )]
    TooLong,
    /// Too much inside each other.
    #[error("more than {DEEPEST} parentheses and negations stand inside each other")]
    TooDeep,
}

/// Characters of words that need no quotes.
pub(super) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-')
}

pub(super) fn is_keyword(text: &str) -> bool {
    matches!(text, "and" | "or" | "not" | "in")
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// `quoted`: keywords in quotes are plain words.
    Word {
        text: String,
        quoted: bool,
    },
    Symbol(&'static str),
    End,
}

impl Token {
    fn in_words(&self) -> String {
        match self {
            Token::Word { text, .. } => format!("{text:?}"),
            Token::Symbol(symbol) => format!("{symbol:?}"),
            Token::End => "the end".to_owned(),
        }
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self, Token::Word { text, quoted: false } if text == keyword)
    }
}

pub(super) fn parse(text: &str) -> Result<Node, LabelError> {
    if text.len() > LONGEST_EXPRESSION {
        return Err(LabelError::too_long());
    }
    let mut parser = Parser {
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
    };
    let node = parser.any()?;
    match parser.peek() {
        Token::End => Ok(node),
        _ => Err(parser.expected("\"and\", \"or\" or the end")),
    }
}

/// All tokens, each with its place counted from 1; the last one is [`Token::End`].
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, LabelError> {
    const SYMBOLS: [&str; 7] = ["==", "!=", "=", "!", "(", ")", ","];
    let mut tokens = Vec::new();
    let (mut rest, mut character) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else if first == '"' {
            let (token, length) = quoted(rest, character)?;
            tokens.push((character, token));
            length
        } else if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            tokens.push((character, Token::Symbol(symbol)));
            symbol.len()
        } else {
            let length = rest.find(|c| !is_plain(c)).unwrap_or(rest.len());
            if length == 0 {
                let found = format!("{first:?}");
                let expected = "a name, a value or an operator";
                let problem = Problem::Expected { expected, found };
                return Err(LabelError { character, problem });
            }
            tokens.push((character, checked(&rest[..length], false, character)?));
            length
        };
        character += rest[..length].chars().count();
        rest = &rest[length..];
    }
    tokens.push((character, Token::End));
    Ok(tokens)
}

fn quoted(rest: &str, character: usize) -> Result<(Token, usize), LabelError> {
    let inner = &rest[1..];
    let Some(length) = inner.find('"') else {
        return Err(LabelError {
            character,
            problem: Problem::OpenQuote,
        });
    };
    Ok((checked(&inner[..length], true, character)?, length + 2))
}

fn checked(text: &str, quoted: bool, character: usize) -> Result<Token, LabelError> {
    let text = text.to_owned();
    if is_value(&text) {
        Ok(Token::Word { text, quoted })
    } else {
        let problem = Problem::Word { word: text };
        Err(LabelError { character, problem })
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: u32,
}

impl Parser {
    /// The last token is the end, which [`Parser::advance`] never leaves.
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn advance(&mut self) {
        self.next = (self.next + 1).min(self.tokens.len() - 1);
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let there = matches!(self.peek(), Token::Symbol(found) if *found == symbol);
        if there {
            self.advance();
        }
        there
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let there = self.peek().is_keyword(keyword);
        if there {
            self.advance();
        }
        there
    }

    fn problem(&self, problem: Problem) -> LabelError {
        LabelError {
            character: self.tokens[self.next].0,
            problem,
        }
    }

    fn expected(&self, expected: &'static str) -> LabelError {
        self.problem(Problem::Expected {
            expected,
            found: self.peek().in_words(),
        })
    }

    fn any(&mut self) -> Result<Node, LabelError> {
        let mut parts = vec![self.all()?];
        while self.take_keyword("or") {
            parts.push(self.all()?);
        }
        Ok(joined(parts, Node::Any))
    }

    fn all(&mut self) -> Result<Node, LabelError> {
        let mut parts = vec![self.one()?];
        while self.take_keyword("and") || self.take_symbol(",") {
            parts.push(self.one()?);
        }
        Ok(joined(parts, Node::All))
    }

    fn one(&mut self) -> Result<Node, LabelError> {
        if self.depth == DEEPEST {
            return Err(self.problem(Problem::TooDeep));
        }
        self.depth += 1;
        let node = if self.take_symbol("!") || self.take_keyword("not") {
            Node::Not(Box::new(self.one()?))
        } else if self.take_symbol("(") {
            let inner = self.any()?;
            if !self.take_symbol(")") {
                return Err(self.expected("\"and\", \"or\" or \")\""));
            }
            inner
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn test(&mut self) -> Result<Node, LabelError> {
        let name = self.word("a label's name, \"!\" or \"(\"")?;
        if self.take_symbol("=") || self.take_symbol("==") {
            return self.equal(name, false);
        }
        if self.take_symbol("!=") {
            return self.equal(name, true);
        }
        let not = self.take_keyword("not");
        if self.take_keyword("in") {
            let values = self.values()?;
            return Ok(Node::In { name, values, not });
        }
        if not {
            return Err(self.expected("\"in\""));
        }
        Ok(Node::Has(name))
    }

    fn equal(&mut self, name: String, not: bool) -> Result<Node, LabelError> {
        let values = vec![self.word("a value")?];
        Ok(Node::In { name, values, not })
    }

    fn values(&mut self) -> Result<Vec<String>, LabelError> {
        if !self.take_symbol("(") {
            return Err(self.expected("\"(\" with a list of values"));
        }
        let mut values = vec![self.word("a value")?];
        while self.take_symbol(",") {
            values.push(self.word("a value")?);
        }
        if !self.take_symbol(")") {
            return Err(self.expected("\",\" or \")\""));
        }
        Ok(values)
    }

    fn word(&mut self, expected: &'static str) -> Result<String, LabelError> {
        match self.peek() {
            Token::Word { text, quoted } if *quoted || !is_keyword(text) => {
                let text = text.clone();
                self.advance();
                Ok(text)
            }
            _ => Err(self.expected(expected)),
        }
    }
}

/// One part stands for itself.
fn joined(mut parts: Vec<Node>, join: impl Fn(Vec<Node>) -> Node) -> Node {
    match parts.len() {
        1 => parts.remove(0),
        _ => join(parts),
    }
}
