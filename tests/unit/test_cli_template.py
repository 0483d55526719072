"""Go templates: what Podman 4.3.1 prints for the same format and the same container.

Each pair of `GOLDEN` was printed by ``podman inspect --format``; what `REFUSED` lists it refused
too. Where Strata is more lenient on purpose is in `LENIENT`.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.cli.format import lay_out
from strata.cli.template import Template
from strata.errors import UsageError

DATA: dict[str, Any] = {
    "Id": "28d028d028d028d028d028d028d028d028d028d028d028d028d028d028d028d0",
    "Created": "2026-11-21T22:44:23.768814584Z",
    "Path": "sleep",
    "Args": ["1000"],
    "State": {
        "OciVersion": "1.0.2-dev",
        "Status": "created",
        "Running": False,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "Pid": 0,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": "0001-01-01T00:00:00Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
        "Health": {"Status": "", "FailingStreak": 0, "Log": []},
        "CheckpointedAt": "0001-01-01T00:00:00Z",
        "RestoredAt": "0001-01-01T00:00:00Z",
    },
    "Image": "7d0b585842bea5bbf9392ee3e6a3a8c76a72cc44383be3c13cc4289b2dc660e1",
    "ImageName": "localhost/busybox:latest",
    "ExecIDs": [],
    "Name": "web",
    "GraphDriver": {"Name": "vfs", "Data": None},
    "Mounts": [
        {
            "Type": "volume",
            "Name": "vol1",
            "Source": "/store/volumes/vol1/_data",
            "Destination": "/data2",
            "Driver": "local",
            "Mode": "",
            "Options": ["nosuid", "nodev", "rbind"],
            "RW": True,
            "Propagation": "rprivate",
        },
        {
            "Type": "bind",
            "Source": "/tmp",
            "Destination": "/hosttmp",
            "Driver": "",
            "Mode": "",
            "Options": ["rbind"],
            "RW": False,
            "Propagation": "rprivate",
        },
    ],
    "NetworkSettings": {"IPAddress": "", "Ports": {}, "Gateway": ""},
    "Config": {
        "Hostname": "28d0b141b53e",
        "User": "",
        "Tty": False,
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM=xterm",
            "container=podman",
            "A=1",
            "HOME=/root",
            "HOSTNAME=28d0b141b53e",
        ],
        "Cmd": ["sleep", "1000"],
        "Entrypoint": "",
        "Labels": {"a": "b", "app": "web", "tier": "front"},
        "Healthcheck": {
            "Test": ["CMD-SHELL", "true"],
            "Interval": 3600000000000,
            "Timeout": 30000000000,
            "Retries": 3,
        },
        "Image": "localhost/busybox:latest",
    },
    "HostConfig": {
        "Binds": ["vol1:/data2:rw,rprivate,nosuid,nodev,rbind", "/tmp:/hosttmp:ro,rprivate,rbind"],
        "LogConfig": {
            "Type": "k8s-file",
            "Config": None,
            "Path": "/store/ctr.log",
            "Tag": "",
            "Size": "0B",
        },
        "NetworkMode": "none",
        "PortBindings": {},
        "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
        "Memory": 67108864,
        "Tmpfs": {"/t": "rw,rprivate,nosuid,nodev,tmpcopyup"},
        "Ulimits": [
            {"Name": "RLIMIT_NOFILE", "Soft": 100, "Hard": 200},
            {"Name": "RLIMIT_NPROC", "Soft": 1048576, "Hard": 1048576},
        ],
        "CapDrop": ["CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW"],
    },
}
GOLDEN = [
    ("{{.State.Status}}", "created\n"),
    ("{{.State.Pid}}/{{.State.Running}}", "0/false\n"),
    ("{{.Config.Labels.app}} {{.Config.Labels.nope}}", "web <no value>\n"),
    ('{{index .Config.Labels "tier"}}|{{index .Config.Labels "nope"}}|', "front||\n"),
    ("{{index .Config.Env 1}}", "TERM=xterm\n"),
    ("{{json .Config.Labels}}", '{"a":"b","app":"web","tier":"front"}\n'),
    (
        "{{json .Mounts}}",
        '[{"Type":"volume","Name":"vol1","Source":"/store/volumes/vol1/_data","Destination":"/data2","Driver":"local","Mode":"","Options":["nosuid","nodev","rbind"],"RW":true,"Propagation":"rprivate"},{"Type":"bind","Source":"/tmp","Destination":"/hosttmp","Driver":"","Mode":"","Options":["rbind"],"RW":false,"Propagation":"rprivate"}]\n',
    ),
    ('{{join .Config.Cmd ","}}', "sleep,1000\n"),
    ('{{len .Mounts}} {{len .Config.Labels}} {{len .Name}} {{len "é"}}', "2 3 3 2\n"),
    ("{{range .Mounts}}{{.Destination}} {{end}}", "/data2 /hosttmp \n"),
    ("{{range $i, $m := .Mounts}}{{$i}}={{$m.Destination}};{{end}}", "0=/data2;1=/hosttmp;\n"),
    ("{{range $k, $v := .Config.Labels}}{{$k}}{{$v}}{{end}}", "abappwebtierfront\n"),
    ("{{range .ExecIDs}}x{{else}}none{{end}}", "none\n"),
    ("{{range .Mounts}}{{if .RW}}{{.Destination}}{{end}}{{end}}", "/data2\n"),
    ('{{if eq .State.Status "running"}}up{{else}}down{{end}}', "down\n"),
    ('{{if eq .Name "x"}}1{{else if eq .Name "abc" "web"}}2{{else}}3{{end}}', "2\n"),
    ("{{with .State}}{{.Pid}}{{end}}", "0\n"),
    ("{{if and .State.Running (not .ExecIDs)}}y{{end}}n", "n\n"),
    ("{{.Name | upper | printf `%s-%s` `x`}}", "x-WEB\n"),
    (
        '{{printf "%5.1f|%v|%d|%05d|%-5d|%+d|%x|%q|%t|%c" 1.25 .Name 3 42 42 42 255 "a\\"b" true 65}}',  # noqa: E501
        '  1.2|web|3|00042|42   |+42|ff|"a\\"b"|true|A\n',
    ),
    ('{{printf "%d %s" "x" 3}}', "%!d(string=x) %!s(int=3)\n"),
    ('{{printf "%s"}}', "%!s(MISSING)\n"),
    ('{{printf "%d" 1 2 "x"}}', "1%!(EXTRA int=2, string=x)\n"),
    ('{{printf "%T %T %T" 1 "a" true}}', "int string bool\n"),
    ('{{printf "%10s|%-10s|%.2s" "abc" "abc" "abc"}}', "       abc|abc       |ab\n"),
    ('{{printf "%s" .Config.Cmd}}', "[sleep 1000]\n"),
    ('{{printf "%q" .Config.Cmd}}', '["sleep" "1000"]\n'),
    (
        '{{printf "%e %g %f %6.2f" 1234.5 1234.5 1234.5 1234.567}}',
        "1.234500e+03 1234.5 1234.500000 1234.57\n",
    ),
    ('{{printf "%%"}}', "%\n"),
    ('{{printf "%X %o %b %U" 255 8 5 65}}', "FF 10 101 U+0041\n"),
    ('{{printf "%#x %#v" 255 "a"}}', '0xff "a"\n'),
    ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2\n"),
    ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1\n"),
    ("a {{- .Name -}} b", "awebb\n"),
    ("a {{ .Name }} b {{/* hi */}} c", "a web b  c\n"),
    ("x {{- /* hi */ -}} y", "xy\n"),
    ("{{println .Name 1 2}}", "web 1 2\n\n"),
    ('{{print .Name 1 2 "a" "b" 3}}', "web1 2ab3\n"),
    ('{{index (split .Image "b") 1}}', "585842\n"),
    ('{{gt 4 3}}{{ne 1 2}}{{le 1 0}}{{lt "a" "b"}}{{ge 2 2}}', "truetruefalsetruetrue\n"),
    ("{{(index .Mounts 0).Source}}", "/store/volumes/vol1/_data\n"),
    ("{{(index .Mounts 0).Options}}", "[nosuid nodev rbind]\n"),
    ('{{index .HostConfig.PortBindings "80/tcp"}}', "[]\n"),
    ("{{range $p, $conf := .NetworkSettings.Ports}}{{$p}}{{else}}noports{{end}}", "noports\n"),
    ("{{.NetworkSettings.Ports}} {{json .NetworkSettings.Ports}}", "map[] {}\n"),
    (
        "{{.Created}} {{.State.StartedAt}} {{.State.FinishedAt}}",
        "2026-11-21 22:44:23.768814584 +0000 UTC 0001-01-01 00:00:00 +0000 UTC 0001-01-01 00:00:00 +0000 UTC\n",  # noqa: E501
    ),
    (
        '{{.Created.Unix}} {{.Created.Format "2006-01-02T15:04:05Z07:00 Jan Mon 3:04PM"}} {{.State.StartedAt.IsZero}} {{.Created.Year}}',  # noqa: E501
        "1795301063 2026-11-21T22:44:23Z Nov Sat 10:44PM true 2026\n",
    ),
    (
        "{{json .Created}} {{json .State.StartedAt}}",
        '"2026-11-21T22:44:23.768814584Z" "0001-01-01T00:00:00Z"\n',
    ),
    ("{{.HostConfig.RestartPolicy}}", "{ 0}\n"),
    ("{{.HostConfig.RestartPolicy.Name}}|{{.HostConfig.RestartPolicy.MaximumRetryCount}}", "|0\n"),
    (
        "{{.HostConfig.Memory}} {{.HostConfig.Tmpfs}} {{.HostConfig.Ulimits}}",
        "67108864 map[/t:rw,rprivate,nosuid,nodev,tmpcopyup] [{RLIMIT_NOFILE 100 200} {RLIMIT_NPROC 1048576 1048576}]\n",  # noqa: E501
    ),
    (
        "{{.HostConfig.Ulimits | json}}",
        '[{"Name":"RLIMIT_NOFILE","Soft":100,"Hard":200},{"Name":"RLIMIT_NPROC","Soft":1048576,"Hard":1048576}]\n',
    ),
    ("{{.SizeRw}} {{.SizeRootFs}}", "<nil> 0\n"),
    ('{{html "<a href=\'x\'>&\\"</a>"}}', "&lt;a href=&#39;x&#39;&gt;&amp;&#34;&lt;/a&gt;\n"),
    ('{{js "it\'s \\"<b>\\""}}', 'it\\\'s \\"\\u003Cb\\u003E\\"\n'),
    ('{{urlquery "a b&c=d/é"}}', "a+b%26c%3Dd%2F%C3%A9\n"),
    ('{{pad "x" 2 3}}|{{pad "" 2 3}}|', "  x   ||\n"),
    ('{{"quoted \\"string\\" \\t tab"}}', 'quoted "string" \t tab\n'),
    (
        "{{'a'}} {{0x10}} {{1e3}} {{1.0}} {{1.5}} {{-3}} {{1_000}} {{010}}",
        "97 16 1000 1 1.5 -3 1000 8\n",
    ),
    ("{{true}} {{false}}", "true false\n"),
    ("{{print nil}}", "<nil>\n"),
    ('{{block "B" .Name}}[{{.}}]{{end}}', "[web]\n"),
    ("{{with $x := .Name}}{{$x}}{{else}}no{{end}}", "web\n"),
    ('{{with ""}}a{{else}}b{{end}}', "b\n"),
    ('{{"\\x41é\\u00e9\\n"}}', "Aéé\n"),
    ("{{. | json | len | gt 10}}", "false\n"),
    ("{{.Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}}", "[CMD-SHELL true] 1h0m0s\n"),
    ("{{eq .State.ExitCode 0}}", "true\n"),
    ("{{if not .State.Running}}stopped{{end}}", "stopped\n"),
    ('{{join (split "a,b,c" ",") "-"}}', "a-b-c\n"),
    ('{{printf "%s\\n" .Name}}', "web\n"),
    (
        '{{printf "%v" 1e21}} {{1e21}} {{1e20}} {{0.000001}} {{0.0000001}}',
        "1e+21 1e+21 1e+20 1e-06 1e-07\n",
    ),
    ('{{3 | printf "%d"}}', "3\n"),
    ('{{"a" | printf "%s-%s" "b"}}', "b-a\n"),
    (
        "{{.HostConfig.Binds}} {{index .HostConfig.Binds 0}}",
        "[vol1:/data2:rw,rprivate,nosuid,nodev,rbind /tmp:/hosttmp:ro,rprivate,rbind] vol1:/data2:rw,rprivate,nosuid,nodev,rbind\n",  # noqa: E501
    ),
    ("{{$m := index .Mounts 1}}{{$m.Source}}", "/tmp\n"),
    ("{{range $i, $m := .Mounts}}{{$m.Type}}{{end}}", "volumebind\n"),
    ('{{ .Name }}{{"\\n"}}', "web\n"),
    ("{{- range .Mounts -}}  {{.Type}}  {{- end -}}", "volumebind"),
    ('{{if (eq .Name "web")}}ok{{end}}', "ok\n"),
    ("{{ if .State.Running }}r{{ else }}n{{ end }}", "n\n"),
    ("{{.Config.Labels.zip.foo}}", "<no value>\n"),
    ('{{index .Config.Labels "app" | upper}}', "WEB\n"),
    ('{{eq (index .Config.Labels "zip") ""}}', "true\n"),
    ('{{eq .Config.Labels.zip ""}}', "false\n"),
    ("{{if .Config.Labels.zip}}y{{else}}n{{end}}", "n\n"),
    ('{{if index .Config.Labels "app"}}y{{else}}n{{end}}', "y\n"),
    ('{{json .Name}} {{json .State.Pid}} {{json "<a&b>"}}', '"web" 0 "<a&b>"\n'),
    ('{{html .Name | printf "%q"}}', '"web"\n'),
    ("{{println}}x", "\nx\n"),
    ('{{1.5 | printf "%.2f"}}', "1.50\n"),
    ("{{len (index .Config.Env 0)}}", "65\n"),
    ("{{-3}}", "-3\n"),
    ("{{- 3}}", "3\n"),
    (
        "{{.Config.User}}|{{.Config.Tty}}|{{.HostConfig.CapDrop}}",
        "|false|[CAP_AUDIT_WRITE CAP_MKNOD CAP_NET_RAW]\n",
    ),
    ("{{len .Config.Cmd | eq 2}}", "true\n"),
    ("{{.Args}} {{.Path}}", "[1000] sleep\n"),
    ('{{eq .Path .Path}} {{ne .Path "x" }}', "true true\n"),
    ("{{with .Mounts}}{{(index . 0).Name}}{{end}}", "vol1\n"),
    ('{{printf "%6v|%-6v|%06v" 3 "a" 3}}', "     3|a     |000003\n"),
    ('{{printf "%5t|%q" true 65}}', " true|'A'\n"),
    (
        '{{printf "%s" 3}} {{printf "%d" true}} {{printf "%t" 1}} {{printf "%x" "hi"}}',
        "%!s(int=3) %!d(bool=true) %!t(int=1) 6869\n",
    ),
    ('{{printf "%*d" 5 3}} {{printf "%.3s|%.1f" "abcdef" 2.25}}', "    3 abc|2.2\n"),
    ('{{printf "%s" .State.StartedAt}}', "0001-01-01 00:00:00 +0000 UTC\n"),
    ('{{println "a" "b"}}', "a b\n\n"),
    ('{{split "a" ""}}{{len (split "abc" "")}}', "[a]3\n"),
    ("{{range $i := .Config.Cmd}}{{$i}}{{end}}", "sleep1000\n"),
    ("{{if .State.StartedAt}}y{{end}}{{if .State.StartedAt.IsZero}}z{{end}}", "yz\n"),
    ("{{.NetworkSettings.IPAddress}}x{{.NetworkSettings.Networks}}", "xmap[]\n"),
    ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "\n"),
    ("{{.NetworkSettings.Networks.podman.IPAddress}}", "<no value>\n"),
    ('{{ .State.Status | printf "%-10s|" }}', "created   |\n"),
    ("{{ $s := .State }}{{ $s.Status }}", "created\n"),
    ("{{(.State).Status}}", "created\n"),
    ("{{(.State.Status)}}", "created\n"),
    ("{{.State.Health.Status}}", "\n"),
    ("{{.State.Healthcheck.Status}}", "\n"),
    ('{{ eq .HostConfig.NetworkMode "none" | not }}', "false\n"),
    ('{{ if eq .Name "web" }}a{{ end }}{{ if ne .Name "web" }}b{{ end }}', "a\n"),
]
REFUSED = [
    ('{{eq 1 "1"}}', "error calling eq: incompatible types for comparison"),
    ('{{eq .State.Pid "0"}}', "error calling eq: incompatible types for comparison"),
    ("{{index .Mounts 9}}", "error calling index: index out of range: 9"),
    (
        '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}',
        "error calling index: index out of range: 0",
    ),
    ("{{nil}}", "nil is not a command"),
    ('{{template "nope"}}', 'template "nope" not defined'),
    ("{{.Nope}}", "can't evaluate field Nope in type struct"),
    ("{{.State.Nope}}", "can't evaluate field Nope in type struct"),
    ("{{.Name.More}}", "can't evaluate field More in type string"),
    ("{{.Name", "unclosed action"),
    ("{{}}", "missing value for command"),
    ("{{if .Id}}x", "unexpected EOF: {{end}} is missing"),
    ("{{end}}", "unexpected {{end}}"),
    ("{{nope .Id}}", 'function "nope" not defined'),
    ("{{$x}}", 'undefined variable "$x"'),
    ("{{.Name .Id}}", ".Name has arguments but cannot be invoked as function"),
    ("{{.Name.Id .Id}}", "can't evaluate field Id in type string"),
    ("{{range .Name}}{{end}}", "range can't iterate over web"),
    ("{{(.Id}}", "unclosed left paren"),
    ("{{.Id | .Name}}", ".Name has arguments but cannot be invoked as function"),
    ('{{.Id | "x"}}', "non executable command in pipeline stage 2"),
    ('{{"\\x"}}', 'bad string "\\x": invalid syntax'),
    ('{{"unterminated}}', "unterminated quoted string"),
    ("{{if}}x{{end}}", "missing value for if"),
    ("{{range}}", "missing value for range"),
    (
        '{{not .State.Running}} {{not ""}} {{and 1 0}} {{or 0 "x"}} {{and}}',
        "wrong number of args for and: want at least 1 got 0",
    ),
    ("{{len 3}}", "error calling len: len of type int"),
    ('{{join "a" ","}}', "error calling join: wrong type for value; expected []string; got string"),
    ("{{upper 3}}", "error calling upper: wrong type for value; expected string; got int"),
    ('{{slice "abc" 5}}', "error calling slice: index out of range: 5"),
    ("{{len nil}}", "error calling len: len of nil pointer"),
    ("{{index nil 1}}", "error calling index: index of untyped nil"),
    ("{{range $key, $value := .Config}}x{{end}}", "range can't iterate over struct"),
    ("{{range .State}}x{{end}}", "range can't iterate over struct"),
    ("{{.Config.Labels.app.foo}}", "can't evaluate field foo in type string"),
    ("{{/* a */ }}", "comment ends before closing delimiter"),
    ("{{ - 3}}", "unexpected '-' in command"),
    ("{{eq}}", "wrong number of args for eq: got 0"),
    ("{{lt 1}}", "wrong number of args for lt: got 1"),
    ("{{index .Config.Cmd -1}}", "error calling index: index out of range: -1"),
    ('{{index .Config.Cmd "a"}}', "error calling index: cannot index slice/array with type string"),
    ("{{.Config.Cmd.foo}}", "can't evaluate field foo in type []string"),
    ("{{.Mounts.Source}}", "can't evaluate field Source in type []interface {}"),
    ("{{join .Config.Env}}", "wrong number of args for join: got 1"),
    ("{{len .State}}", "error calling len: len of type struct"),
    ('{{pad "a" 1}}', "wrong number of args for pad: got 2"),
    ("{{upper}}", "wrong number of args for upper: got 0"),
    ("{{lower .Name .Name}}", "wrong number of args for lower: got 2"),
    ("{{with $i := 3}}{{$i}}{{end}}{{$i}}", 'undefined variable "$i"'),
    ("{{1 2}}", "can't give argument to non-function 1"),
    ('{{"a" "b"}}', "can't give argument to non-function a"),
    ("{{.Name.}}", "unexpected '.' after term"),
    ("{{.Name .}}", ".Name has arguments but cannot be invoked as function"),
    ("{{..Name}}", "unexpected '.Name' after term"),
    ("{{. .Name}}", "can't give argument to non-function dot"),
    ("{{|upper}}", "missing value for command"),
    ("{{upper | }}", "missing value for command"),
    ("{{.Name || upper}}", "missing value for command"),
]
LENIENT = [
    # A field's case, also where Podman rewrites only the first form.
    ("{{range .Mounts}}{{$.Name}}{{end}}", "webweb\n"),
    ("{{$x := .id}}{{slice $x 0 4}}", "28d0\n"),
    # Templates of one's own, which Podman puts inside a range where they cannot stand.
    ('{{define "T"}}<{{.}}>{{end}}{{template "T" .Name}}', "<web>\n"),
    ('{{define "T"}}{{range .}}({{.Type}}){{end}}{{end}}{{template "T" .Mounts}}',
     "(volume)(bind)\n"),
    # Of newer Go than that Podman was built with.
    ("{{with .ExecIDs}}x{{else with .Name}}{{.}}{{end}}", "web\n"),
    ("{{range 3}}{{.}}{{end}}", "012\n"),
    # An earlier Podman's names.
    ("{{range .Mounts}}{{.Src}}:{{.Dst}} {{end}}", "/store/volumes/vol1/_data:/data2 /tmp:/hosttmp \n"),  # noqa: E501
    # What JSON leaves out is not unknown.
    ("{{range .Mounts}}[{{.Name}}]{{end}}", "[vol1][]\n"),
    ("{{.SizeRw}} {{.SizeRootFs}} {{if .State.ConmonPid}}{{else}}none{{end}}", "<nil> 0 none\n"),
]  # fmt: skip

DOCKER_DOCS = [
    ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "10.88.0.5\n"),
    ("{{range $p, $conf := .NetworkSettings.Ports}} {{$p}} -> {{(index $conf 0).HostPort}} {{end}}",
     " 80/tcp -> 8080 \n"),
    ('{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "8080\n"),
    ("{{json .NetworkSettings.Ports}}", '{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}\n'),
    ("{{.NetworkSettings.Networks.podman.IPAddress}}", "10.88.0.5\n"),
    ("{{.NetworkSettings.Networks.other.IPAddress}}", "<no value>\n"),
    ('{{with index .NetworkSettings.Networks "podman"}}{{.IPAddress}}{{end}}', "10.88.0.5\n"),
    ('{{if .NetworkSettings.Networks.other}}there{{else}}not there{{end}}', "not there\n"),
    ('{{range $k, $v := .NetworkSettings.Networks}}{{printf "%s\\n" $k}}{{end}}', "podman\n"),
]  # fmt: skip


def render(text: str, data: Any = DATA) -> str:
    return Template(lay_out(text, table=False), "inspect").render(data)


@pytest.mark.parametrize(("text", "expected"), [*GOLDEN, *LENIENT])
def test_a_template_prints_what_it_prints_with_podman(text: str, expected: str) -> None:
    assert render(text) == expected


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_go_refuses_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        render(text)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 125


@pytest.mark.parametrize(("text", "expected"), DOCKER_DOCS)
def test_the_examples_everybody_copies(text: str, expected: str) -> None:
    network = {"IPAddress": "10.88.0.5", "Gateway": "10.88.0.1"}
    ports = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    data = {"NetworkSettings": {"IPAddress": "", "Ports": ports, "Networks": {"podman": network}}}
    assert render(text, data) == expected


@pytest.mark.parametrize(
    ("text", "laid_out"),
    [
        (r"{{.ID}}\t{{.Names}}", "{{.ID}}\t{{.Names}}\n"),
        (r"{{.ID}}\n", "{{.ID}}\n"),
        (r'{{join .Names "\n"}}', r'{{join .Names "\n"}}'),
        ("{{.ID}}", "{{.ID}}\n"),
        ("{{.ID", "{{.ID\n"),
    ],
)
def test_tabs_and_line_ends_are_those_of_the_text_not_of_its_actions(
    text: str, laid_out: str
) -> None:
    assert lay_out(text, table=False) == laid_out


def test_blanks_divide_the_columns_of_tables() -> None:
    assert lay_out('{{.ID}} {{join .Names ", "}}', table=True) == '{{.ID}}\t{{join .Names ", "}}\n'


def test_a_template_that_calls_itself_ends() -> None:
    with pytest.raises(UsageError, match="exceeded maximum template depth"):
        render('{{define "T"}}{{template "T" .}}{{end}}{{template "T" .}}')


def test_nesting_has_a_limit() -> None:
    with pytest.raises(UsageError, match="nested too deeply"):
        render("{{if 1}}" * 5000 + "{{end}}" * 5000)
    with pytest.raises(UsageError, match="nested too deeply"):
        render("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}")


def test_a_width_does_not_fill_the_memory() -> None:
    assert len(render('{{printf "%999999999d" 1}}')) < 20_000


_WORDS = [
    "{{",
    "}}",
    "{{-",
    "-}}",
    ".",
    "Id",
    ".Name",
    ".Mounts",
    "end",
    "else",
    "if ",
    "range ",
    "$x",
    "$",
    ":=",
    "=",
    "|",
    "(",
    ")",
    '"',
    "`",
    " ",
    "json ",
    "index ",
    "with ",
    "-",
    "7",
    "printf ",
    '"%5v" ',
    "and ",
    "/*",
    "*/",
    "define ",
    "template ",
    "break",
    "\\",
    ",",
]


@given(st.lists(st.sampled_from(_WORDS), max_size=14).map("".join))
def test_any_template_is_rendered_or_refused(text: str) -> None:
    try:
        render(text)
    except UsageError:
        pass


def test_bytes_that_are_no_text_survive_or_become_replacement_characters() -> None:
    data = {"Name": "a\udcff"}
    assert render("{{.Name}}", data) == "a\udcff\n"
    assert render("{{json .Name}} {{len .Name}} {{urlquery .Name}}", data) == '"a\ufffd" 2 a%FF\n'


def test_to_a_function_a_missing_key_is_nil() -> None:
    assert render("{{print 1 .Config.Labels.no}} {{.Config.Labels.no}}") == "1 <nil> <no value>\n"
