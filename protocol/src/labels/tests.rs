use super::*;
use proptest::prelude::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    owned.collect()
}

#[test]
fn expressions_mean_what_they_say() {
    let server = labels(&[("rack", "a1"), ("row", "2"), ("owner", "team x"), ("in", "1")]);
    for (text, expected) in [
        ("rack in (a1,b2)", true),
        ("rack not in (a1, b2)", false),
        ("row != 3", true),
        ("room != 3", true),
        ("room not in (3)", true),
        ("owner", true),
        ("!gpu", true),
        ("not owner", false),
        ("rack=a1,row==2", true),
        ("rack = b1 or row = 2 and owner", true),
        ("(rack = b1 or row = 2) and gpu", false),
        ("owner = \"team x\"", true),
        ("\"in\" = 1", true),
        ("!(rack = a1 and !gpu)", false),
    ] {
        let expression: LabelExpression = text.parse().unwrap();
        assert_eq!(expression.matches(&server), expected, "{text} = {expression}");
    }
}

#[test]
fn errors_point_at_the_place() {
    for (text, words) in [
        (
            "",
            "at character 1 of the label expression: a label's name, \"!\" or \"(\" is needed, the end stands there",
        ),
        (
            "rack in (a b)",
            "at character 12 of the label expression: \",\" or \")\" is needed, \"b\" stands there",
        ),
        (
            "rack in a",
            "at character 9 of the label expression: \"(\" with a list of values is needed, \"a\" stands there",
        ),
        (
            "ä = 1",
            "at character 1 of the label expression: a name, a value or an operator is needed, 'ä' stands there",
        ),
        (
            "rack =",
            "at character 7 of the label expression: a value is needed, the end stands there",
        ),
        (
            "rack = and",
            "at character 8 of the label expression: a value is needed, \"and\" stands there",
        ),
        (
            "(rack",
            "at character 6 of the label expression: \"and\", \"or\" or \")\" is needed, the end stands there",
        ),
        (
            "a b",
            "at character 3 of the label expression: \"and\", \"or\" or the end is needed, \"b\" stands there",
        ),
        (
            "a = \"b",
            "at character 5 of the label expression: the quote is not closed: a second \" is needed",
        ),
        (
            "a not b",
            "at character 7 of the label expression: \"in\" is needed, \"b\" stands there",
        ),
    ] {
        assert_eq!(text.parse::<LabelExpression>().unwrap_err().to_string(), words);
    }
    let problem = |text: &str| text.parse::<LabelExpression>().unwrap_err().problem;
    assert_eq!(problem(&("!".repeat(1000) + "a")), Problem::TooDeep);
    assert_eq!(problem(&("(".repeat(1000) + "a")), Problem::TooDeep);
    assert_eq!(problem(&"a,".repeat(2000)), Problem::TooLong);
    let short_until_it_is_printed = "a,".repeat(1000) + "a";
    assert!(short_until_it_is_printed.len() <= LONGEST_EXPRESSION);
    assert_eq!(problem(&short_until_it_is_printed), Problem::TooLong);
}

fn any_word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,3}",
        Just("in".to_owned()),
        Just("not".to_owned()),
        "[ a-zä(!,=]{0,4}"
    ]
}

fn any_node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        any_word().prop_map(Node::Has),
        (any_word(), prop::collection::vec(any_word(), 1..4), any::<bool>())
            .prop_map(|(name, values, not)| Node::In { name, values, not }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|node| Node::Not(Box::new(node))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::All),
            prop::collection::vec(inner, 2..4).prop_map(Node::Any),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_as_the_same(node in any_node()) {
        let expression = LabelExpression(node);
        prop_assert_eq!(expression.to_string().parse::<LabelExpression>(), Ok(expression));
    }

    #[test]
    fn noise_is_parsed_or_refused_inside_the_text(text in "[a-c(),!=\" inotädr]{0,40}") {
        if let Err(error) = text.parse::<LabelExpression>() {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.character));
        }
    }
}
