use proptest::prelude::*;
use serde_json::json;

use super::*;

fn value() -> Value {
    json!({
        "Id": "sha256:abc",
        "Name": "web",
        "Size": 1234,
        "Ratio": 0.5,
        "Running": true,
        "Nothing": null,
        "Tags": ["a:1", "b:2"],
        "Config": {
            "Env": ["PATH=/bin", "X=1"],
            "Labels": {"z": "last", "a.b": "first"},
            "Cmd": null,
        },
        "Mounts": [{"Source": "/x", "RW": true}, {"Source": "/y", "RW": false}],
    })
}

fn render(template: &str) -> String {
    match Template::parse(template).and_then(|template| template.render(&value())) {
        Ok(text) => text,
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn templates_print_what_go_prints() {
    for (template, expected) in [
        ("plain", "plain"),
        ("{{.Name}}", "web"),
        ("a{{ .Size }}b", "a1234b"),
        (
            "{{.Ratio}} {{.Running}} {{.Nothing}}",
            "0.5 true <no value>",
        ),
        ("{{.Tags}}", "[a:1 b:2]"),
        ("{{.Config.Labels}}", "map[a.b:first z:last]"),
        ("{{json .Tags}}", r#"["a:1","b:2"]"#),
        ("{{.Tags | json}}", r#"["a:1","b:2"]"#),
        ("{{join .Tags \", \"}}", "a:1, b:2"),
        (
            "{{upper .Name}}{{lower \"ABC\"}}{{title \"a b-c\"}}",
            "WEBabcA B-C",
        ),
        ("{{index .Tags 1}}", "b:2"),
        ("{{index .Config.Labels \"a.b\"}}", "first"),
        ("[{{index .Config.Labels \"none\"}}]", "[]"),
        ("{{.Config.Labels.none}}", "<no value>"),
        ("{{(index .Mounts 0).Source}}", "/x"),
        ("{{range .Mounts}}{{.Source}} {{end}}", "/x /y "),
        (
            "{{range $i, $m := .Mounts}}{{$i}}={{$m.Source}};{{end}}",
            "0=/x;1=/y;",
        ),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}} {{end}}",
            "a.b:first z:last ",
        ),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        (
            "{{range .Tags}}{{if eq . \"b:2\"}}{{break}}{{end}}{{.}}{{end}}",
            "a:1",
        ),
        (
            "{{range .Tags}}{{if eq . \"a:1\"}}{{continue}}{{end}}{{.}}{{end}}",
            "b:2",
        ),
        ("{{if .Running}}up{{else}}down{{end}}", "up"),
        (
            "{{if .Nothing}}a{{else if eq .Size 1234}}b{{else}}c{{end}}",
            "b",
        ),
        ("{{if and .Running (gt .Size 1000)}}big{{end}}", "big"),
        ("{{if not .Nothing}}x{{end}}{{or .Nothing \"y\"}}", "xy"),
        ("{{with .Config}}{{index .Env 0}}{{end}}", "PATH=/bin"),
        ("{{with .Nothing}}a{{else}}b{{end}}", "b"),
        ("{{$x := .Name}}{{$x}}{{$.Size}}", "web1234"),
        ("{{with .Config}}{{$.Name}}{{end}}", "web"),
        ("{{len .Tags}} {{len .Name}}", "2 3"),
        ("{{slice .Id 7}} {{slice .Name 0 2}}", "abc we"),
        ("{{truncate .Id 6}}", "sha256"),
        (
            "{{printf \"%s-%d %5s|%-5s|%q %v\" .Name .Size \"a\" \"b\" \"c\" .Tags}}",
            "web-1234     a|b    |\"c\" [a:1 b:2]",
        ),
        ("{{println .Name 1}}", "web 1\n"),
        ("{{print 1 2 \"x\" 3}}", "1 2x3"),
        ("{{split .Id \":\"}}", "[sha256 abc]"),
        ("{{pad .Name 1 2}}|", " web  |"),
        ("a  {{- .Name -}}  b", "awebb"),
        ("a{{/* comment */}}b", "ab"),
        ("{{`raw \"x\"`}}", "raw \"x\""),
        ("{{\"a\\tb\"}}", "a\tb"),
        ("{{.}}{{if false}}{{end}}", &print::text(&value())),
        (
            "{{html \"<a>\"}} {{urlquery \"a b&c\"}}",
            "&lt;a&gt; a+b%26c",
        ),
        (
            "{{eq 1 2 1}} {{ne 1 1}} {{lt \"a\" \"b\"}}",
            "true false true",
        ),
        ("{{range 3}}{{.}}{{end}}", "012"),
    ] {
        assert_eq!(render(template), expected, "{template}");
    }
}

#[test]
fn mistakes_are_explained_in_dockers_words() {
    for (template, expected) in [
        (
            "{{.Foo}}",
            "error: template: :1: executing \"\" at <.Foo>: map has no entry for key \"Foo\"",
        ),
        (
            "\n{{.Name.Foo}}",
            "error: template: :2: executing \"\" at <.Name.Foo>: can't evaluate field Foo in type string",
        ),
        (
            "{{nosuch .}}",
            "error: template parsing error: template: :1: function \"nosuch\" not defined",
        ),
        (
            "{{.Name",
            "error: template parsing error: template: :1: unclosed action",
        ),
        (
            "{{end}}",
            "error: template parsing error: template: :1: unexpected {{end}}",
        ),
        (
            "{{if .Name}}",
            "error: template parsing error: template: :1: unexpected EOF",
        ),
        (
            "{{}}",
            "error: template parsing error: template: :1: missing value for command",
        ),
        (
            "{{index .Tags 9}}",
            "error: template: :1: executing \"\" at <index>: index out of range: 9",
        ),
        (
            "{{\"a}}",
            "error: template parsing error: template: :1: unterminated quoted string",
        ),
        (
            "{{$x}}",
            "error: template: :1: executing \"\" at <$x>: undefined variable \"$x\"",
        ),
        (
            "{{break}}",
            "error: template parsing error: template: :1: {{break}} outside {{range}}",
        ),
        (
            "{{upper .Size}}",
            "error: template: :1: executing \"\" at <upper>: wrong type for value; expected string; got type int",
        ),
    ] {
        assert_eq!(render(template), expected, "{template}");
    }
    let deep = format!("{}.{}", "{{(".repeat(500), ")}}".repeat(500));
    assert!(render(&deep).starts_with("error"));
    let nested = "{{if true}}".repeat(500) + &"{{end}}".repeat(500);
    assert!(render(&nested).ends_with("nested too deeply"));
}

const COLUMNS: [Column; 3] = [
    Column {
        heading: "CONTAINER ID",
        field: "ID",
    },
    Column {
        heading: "NAMES",
        field: "Name",
    },
    Column {
        heading: "SIZE",
        field: "Size",
    },
];

fn list(format: Option<&str>) -> String {
    let rows = [
        json!({"ID": "abc", "Name": "a-longer-name", "Size": "1kB", "Labels": "a=1,b=2"}),
        json!({"ID": "def", "Name": "x", "Size": "10kB", "Labels": ""}),
    ];
    render_rows(format, &COLUMNS, &rows).unwrap()
}

#[test]
fn listings_look_like_dockers() {
    assert_eq!(
        list(None),
        "CONTAINER ID   NAMES           SIZE\n\
         abc            a-longer-name   1kB\n\
         def            x               10kB\n"
    );
    assert_eq!(list(Some("table")), list(None));
    assert_eq!(list(Some("{{.Name}}")), "a-longer-name\nx\n");
    assert_eq!(
        list(Some("table {{.ID}}\\t{{upper .Name}}")),
        "CONTAINER ID   NAMES\nabc            A-LONGER-NAME\ndef            X\n"
    );
    assert_eq!(
        list(Some(
            "table {{truncate .ID 1}}\t{{join (split .Labels \",\") \";\"}}"
        )),
        "CONTAINER ID   LABELS\na              a=1;b=2\nd              \n"
    );
    assert_eq!(list(Some("{{.Label \"b\"}}|")), "2|\n|\n");
    assert_eq!(
        list(Some("json")).lines().next().unwrap(),
        r#"{"ID":"abc","Name":"a-longer-name","Size":"1kB","Labels":"a=1,b=2"}"#
    );
    assert!(render_rows(Some("{{.Nope}}"), &COLUMNS, &[json!({})]).is_err());
    assert_eq!(
        render_rows(Some("table {{.CreatedAt}}\t{{.ID}}"), &COLUMNS, &[]).unwrap(),
        "CREATED AT   CONTAINER ID\n"
    );
}

proptest! {
    #[test]
    fn templates_never_panic(template in "([a-z .]{0,4}\\{\\{[-a-z.$|()\" :=0-9]{0,16}\\}\\}){0,4}.{0,8}") {
        let _ = render(&template);
    }

    #[test]
    fn arbitrary_text_never_panics(template in "\\PC{0,60}") {
        let _ = render(&template);
    }
}
