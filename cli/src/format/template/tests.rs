//! Templates as people write them, and what they print.

use serde_json::json;

use super::*;

fn render(template: &str) -> Result<String, TemplateError> {
    let value = json!({
        "Id": "abc", "State": {"Status": "running", "Pid": 7, "Paused": false},
        "Config": {"Env": ["A=1", "B=2"], "Labels": {"com.x": "y"}, "Cmd": null},
        "Mounts": [{"Source": "/a", "RW": true}, {"Source": "/b", "RW": false}],
        "NetworkSettings": {"Networks": {"db": {"IPAddress": "10.0.0.2"}, "web": {"IPAddress": "10.1.0.2"}}},
    });
    Template::parse(template)?.render(&value)
}

fn all_print(cases: &[(&str, &str)]) {
    for (template, text) in cases {
        assert_eq!(render(template).as_deref(), Ok(*text), "{template}");
    }
}

#[test]
fn fields_print_as_in_go() {
    all_print(&[
        ("{{.Id}}", "abc"),
        ("{{ .State.Status }} {{.State.Pid}}/{{.State.Paused}}", "running 7/false"),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[com.x:y]"),
        ("{{.Config.Cmd}}", "<no value>"),
        (r"a\tb", "a\tb"),
    ]);
}

#[test]
fn functions_take_fields_texts_and_each_others_results() {
    all_print(&[
        ("{{json .State}}", r#"{"Paused":false,"Pid":7,"Status":"running"}"#),
        (r#"{{index .Config.Labels "com.x"}}"#, "y"),
        (r#"{{index .Config.Labels "none"}}"#, ""),
        ("{{index .Config.Env 1}}", "B=2"),
        (r#"{{(index .NetworkSettings.Networks "db").IPAddress}}"#, "10.0.0.2"),
        (r#"{{index .NetworkSettings.Networks "db" "IPAddress"}}"#, "10.0.0.2"),
        (r#"{{join .Config.Env ", "}}"#, "A=1, B=2"),
        ("{{len .Config.Env}}{{upper .Id}}", "2ABC"),
        ("{{.Id | upper}}", "ABC"),
        (r#"{{.Config.Env | json | len}}"#, "13"),
        (r#"{{join (split .State.Status "n") "-"}}"#, "ru--i-g"),
        (r#"{{println "a" 1 .Id}}{{print 1 2 "x" 3}}"#, "a 1 abc\n1 2x3"),
        (r#"{{"say \"}}\" \\ \t"}}{{`raw\n`}}"#, "say \"}}\" \\ \traw\\n"),
        (
            r#"{{printf "%-5s|%4d|%.2s|%q|%v%%" .Id .State.Pid .Id .Id .State.Paused}}"#,
            "abc  |   7|ab|\"abc\"|false%",
        ),
        (r#"{{.Id | printf "%s-%s" "x"}}"#, "x-abc"),
        ("{{slice .Id 1}}{{slice .Id 0 2}}{{truncate .Id 1}}{{title .Id}}", "bcabaAbc"),
    ]);
}

#[test]
fn blocks_are_as_in_go() {
    all_print(&[
        ("{{range .Mounts}}{{.Source}} {{end}}", "/a /b "),
        ("{{range $i, $m := .Mounts}}{{if $i}}, {{end}}{{$i}}={{$m.Source}}{{end}}", "0=/a, 1=/b"),
        ("{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}", "db web "),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{println}}{{end}}", "10.0.0.2\n10.1.0.2\n"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{range .Mounts}}{{if .RW}}rw{{else}}ro of {{$.Id}}{{end}} {{end}}", "rw ro of abc "),
        ("{{with .State}}{{.Status}}{{end}}{{with .Config.Cmd}}x{{else}}!{{end}}", "running!"),
        (r#"{{with index .NetworkSettings.Networks "none"}}{{.IPAddress}}{{end}}"#, ""),
        ("{{if .State.Paused}}a{{else if eq .State.Status \"running\"}}b{{else}}c{{end}}", "b"),
        ("{{if and .Id (not .State.Paused)}}yes{{end}}{{or .Config.Cmd .Id}}", "yesabc"),
        ("{{if or .Id .No.Such}}short{{end}}", "short"),
        ("{{if gt .State.Pid 6}}{{if le .State.Pid 7.0}}seven{{end}}{{end}}", "seven"),
        ("{{eq .Id \"x\" \"abc\"}} {{ne 1 1}} {{lt \"a\" \"b\"}}", "true false true"),
        ("{{$n := 0}}{{range .Mounts}}{{$n = .Source}}{{end}}{{$n}}", "/b"),
        ("a  {{- /* nothing */ -}}  b {{- .Id }} c", "ababc c"),
    ]);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for action in [
        "template \"x\"",
        "define \"x\"",
        ".Id | .Id",
        "",
        "\"a",
        ".A b",
        ".A .B",
        "(.A",
        ".A)",
        "nosuch .A",
        "json json",
        ".A..B",
        "$x :=",
        "'c'",
        "\"\\x\"",
    ] {
        let error = Template::parse(&format!("{{{{{action}}}}}")).unwrap_err();
        let named = error.to_string().contains(&format!("{{{{{action}}}}} is not supported"));
        assert!(named || error == TemplateError::Unclosed, "{action}: {error}");
    }
    assert_eq!(render("{{.Id"), Err(TemplateError::Unclosed));
    assert_eq!(render("{{end}}"), Err(TemplateError::Unexpected("end".to_owned())));
    assert_eq!(
        render("{{if .Id}}{{else}}{{else}}{{end}}"),
        Err(TemplateError::Unexpected("else".to_owned()))
    );
    assert_eq!(render("{{range .Mounts}}"), Err(TemplateError::NoEnd));
    assert_eq!(render("{{if .Id}}{{else}}"), Err(TemplateError::NoEnd));
    assert_eq!(Template::parse(&"{{if .Id}}".repeat(100_000)), Err(TemplateError::TooDeep));
    assert!(Template::parse(&format!("{{{{{}}}}}", "(".repeat(100_000))).is_err());
}

#[test]
fn a_field_that_is_not_there_and_a_wrong_argument_are_errors() {
    assert_eq!(render("{{.State.Nope}}"), Err(TemplateError::NoField("Nope".to_owned())));
    assert_eq!(render("{{$x}}"), Err(TemplateError::NoVariable("x".to_owned())));
    assert_eq!(render("{{$x = 1}}"), Err(TemplateError::NoVariable("x".to_owned())));
    for template in [
        "{{upper .State}}",
        "{{index .Config.Env 9}}",
        "{{range .Id}}{{end}}",
        "{{lt .Id 1}}",
        "{{json}}",
        "{{slice .Id 2 1}}",
        r#"{{printf "%s"}}"#,
        r#"{{printf "%d" .Id}}"#,
        r#"{{printf "%x" .Id}}"#,
        r#"{{printf "a" 1}}"#,
        r#"{{printf "%99999d" 1}}"#,
    ] {
        assert!(matches!(render(template), Err(TemplateError::WrongType { .. })), "{template}");
    }
}

#[test]
fn the_fields_of_a_row_are_those_of_the_value_itself() {
    let template = Template::parse(
        "{{.A}}{{if .B}}{{.C}}{{end}}{{range .D}}{{.E}}{{else}}{{.F}}{{end}}{{json (len .G)}}",
    );
    assert_eq!(template.unwrap().fields().collect::<Vec<_>>(), ["A", "B", "C", "D", "F", "G"]);
}
