"""The JavaScript client's types: a program compiles against them that uses all they export."""

import asyncio
import re
import subprocess

import orjson

from tests.processes import ROOT
from tests.sdk import npm

CLIENT = ROOT / "static" / "client"
CONSUMER = ROOT / "tests" / "sdk" / "consumer.ts"
TYPESCRIPT = "typescript@5.9.3"
OPTIONS = {
    "strict": True,
    "noEmit": True,
    "target": "es2022",
    "module": "nodenext",
    "lib": ["es2022", "dom"],
    "types": [],
}
EXPORTED = re.compile(r"^export (?:declare )?(type|interface|class|function) (\w+)", re.MULTILINE)
DECLARED = EXPORTED.findall((CLIENT / "tokenwire.d.ts").read_text())


async def test_a_program_that_uses_all_of_them_compiles(tmp_path):
    compiler = await asyncio.to_thread(npm.folder, TYPESCRIPT)
    (tmp_path / "node_modules" / "@tokenwire").mkdir(parents=True)
    (tmp_path / "node_modules" / "@tokenwire" / "client").symlink_to(CLIENT)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "consumer.ts").write_text(CONSUMER.read_text())
    (tmp_path / "tsconfig.json").write_bytes(orjson.dumps({"compilerOptions": OPTIONS}))
    tsc = compiler / "node_modules" / "typescript" / "bin" / "tsc"
    process = await asyncio.create_subprocess_exec(
        npm.node(), str(tsc), "--project", str(tmp_path), stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert (out.decode(), process.returncode) == ("", 0)


def test_that_program_names_all_of_them():
    used = re.findall(r"\w+", CONSUMER.read_text())
    assert [name for _, name in DECLARED if name not in used] == []


async def test_what_they_say_can_be_called_is_there():
    script = f"console.log(JSON.stringify(Object.keys(await import({str(CLIENT / 'tokenwire.js')!r}))))"
    process = await asyncio.create_subprocess_exec(
        npm.node(), "--input-type=module", "-e", script, stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert sorted(orjson.loads(out)) == sorted(
        name for kind, name in DECLARED if kind in ("class", "function")
    )
