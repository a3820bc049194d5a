"""scripts/corpus: what it takes out of each text format, and that a run is complete, repeatable and honest. No network:
the packages are made here, and apt-get is a script of the test."""

import importlib.machinery
import importlib.util
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "corpus"
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("corpus", str(SCRIPT))
corpus = importlib.util.module_from_spec(importlib.util.spec_from_loader("corpus", loader))
loader.exec_module(corpus)


def paragraphs(text):
    return list(corpus.paragraphs_of(text))


class Formats(unittest.TestCase):
    def test_html(self):
        page = """<html><head><title>Not text</title></head><body><div class="navheader"><p>Next</p></div>
            <h1>Heading</h1><p>One <b>bold</b> word<br>and &lt;more&gt; <code>code</code>.</p><pre>int main</pre>
            <ul><li>First<li>Second</ul><table><tr><td>cell</td></tr></table><p>Unclosed <i>tags</p><p>Last</body>"""
        self.assertEqual(paragraphs(corpus.html_to_text(page)),
                         ["Heading", "One bold word and <more> code.", "First", "Second", "Unclosed tags", "Last"])

    def test_rst(self):
        source = """
Title
=====

A paragraph with ``code``, *emphasis*, :c:func:`a_function`, a :ref:`link <target>`
and `another <https://example.org>`_::

    literal block

.. a comment
   that goes on

.. note:: Mind this.

   And this.

.. code-block:: c

   int x;

.. c:function:: int f(int x)
   :noindex:

   What the function does.

* first item
* second item
"""
        self.assertEqual(paragraphs(corpus.rst_to_text(source)),
                         ["Title", "A paragraph with code, emphasis, a_function, a link and another:", "Mind this.",
                          "And this.", "What the function does.", "* first item", "* second item"])

    def test_pod(self):
        source = """=head1 NAME

The C<print> of B<I<nested>> codes: L<perlfunc/open>, L<a text|perlre>, L<perlvar>, E<gt>, C<< $x->y >>.X<index>

    verbatim code

=begin html

not for us

=end html

=for comment neither this

=item *

An item.

=cut
"""
        self.assertEqual(paragraphs(corpus.pod_to_text(source)),
                         ["NAME", "The print of nested codes: open in perlfunc, a text, perlvar, >, $x->y.", "*",
                          "An item."])

    def test_sword(self):
        books = ['<title>Genesis</title><div type="x-p"/><w lemma="H1">In</w> the beginning<note>n</note>.<lg/><l>One'
                 "</l><l>line</l>", "Second¶book"]
        blocks, index = b"", b""
        for book in books:
            packed = zlib.compress(book.encode())
            index += struct.pack("<III", len(blocks), len(packed), len(book))
            blocks += packed
        texts = [paragraphs(text) for _, text in corpus.read_sword_bible({"x/ot.bzs": index, "x/ot.bzz": blocks})]
        self.assertEqual(texts, [["In the beginning.", "One line"], ["Second", "book"]])

    def test_r_data_base(self):
        def chunk(lines):
            records = b"".join(b"\x00\x04\x00\x09" + struct.pack(">i", len(line)) + line for line in lines)
            packed = zlib.compress(b"header" + records)
            return struct.pack(">i", len(packed)) + packed

        novel = [f"line {i}".encode() for i in range(2000)]
        content = b"junk" + chunk(novel) + chunk([b"an object"]) + chunk(novel[::-1])
        texts = [text for _, text in corpus.read_r_novels({"x.rdb": content})]
        self.assertEqual(texts, [b"\n".join(novel).decode(), b"\n".join(novel[::-1]).decode()])


class Prose(unittest.TestCase):
    def test_is_prose(self):
        self.assertTrue(corpus.is_prose("It was the best of times, it was the worst of times, said the author."))
        self.assertTrue(corpus.is_prose("“Él dijo que no”, and then he said that he would have been of the same mind."))
        for text in ["Too short to be of use.", "x" * 100, "int main(int argc, char** argv) { return f(argv[0]); }",
                     ">>> for the one who is in the shell and would have it so", "Weg Haus Baum Strasse Fluss " * 5]:
            self.assertFalse(corpus.is_prose(text), text)

    def test_duplicates_are_dropped_across_documents(self):
        unique = corpus.Deduplicator()
        self.assertEqual(unique(["a", "b", "a"]), ["a", "b"])
        self.assertEqual(unique(["c", "b"]), ["c"])

    def test_split_document(self):
        for count, limit in [(1, 10), (7, 10), (100, 50), (100, 10_000), (33, 1)]:
            parts = [f"paragraph {i}" + "x" * (i * 7 % 13) for i in range(count)]
            pieces = corpus.split_document(parts, limit)
            self.assertEqual(sum(pieces, []), parts)
            longest = max(len(part) for part in parts) + 2
            for piece in pieces:
                self.assertLessEqual(sum(len(part) + 2 for part in piece), limit + longest)


SENTENCES = ("It was about the time that they had all gone to the house of which she had been told. ",
             "There is not much more that can be said of the man who was there before the others came. ")


def page(number):
    body = "".join(f"<p>{SENTENCES[i % 2] * 2} {i * number}</p>" for i in range(12))
    return f"<html><body>{body}<p>{SENTENCES[0] * 2}</p></body></html>"


class Runs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="kiln-test-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.out, self.cache, self.tools = (self.folder / name for name in ("out", "cache", "tools"))
        self.cache.mkdir()
        self.tools.mkdir()
        self.calls = self.folder / "calls"

    def apt_get(self, body):
        """Puts an apt-get in front of the real one."""
        tool = self.tools / "apt-get"
        tool.write_text(f'#!/bin/sh\necho "$@" >> {self.calls}\n{body}\n')
        tool.chmod(0o755)

    def package(self, name, files, where=None):
        root = self.folder / "root" / name
        (root / "DEBIAN").mkdir(parents=True)
        (root / "DEBIAN" / "control").write_text(f"Package: {name}\nVersion: 1.2-3\nArchitecture: all\n"
                                                 "Maintainer: a test <a@example.org>\nDescription: none\n")
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content)
        archive = (where or self.cache) / f"{name}_1.2-3_all.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, archive], check=True, capture_output=True)
        return archive

    def anarchism(self, where=None):
        pages = {f"usr/share/doc/anarchism/html/page{i}.html": page(i) for i in range(1, 6)}
        return self.package("anarchism", {**pages, "usr/share/doc/anarchism/changelog": "not wanted"}, where)

    def run_script(self, *arguments, packages=("anarchism",)):
        environment = {**os.environ, "PATH": f"{self.tools}:{os.environ['PATH']}"}
        return subprocess.run([sys.executable, "-B", SCRIPT, self.out, "--packages-only", *packages, *arguments],
                              capture_output=True, text=True, env=environment, check=False)

    def documents(self):
        return [json.loads(line) for line in (self.out / "documents.jsonl").read_text().splitlines()]

    def test_a_package_in_the_cache_needs_no_network(self):
        self.apt_get("exit 100")
        self.anarchism()
        result = self.run_script("--cache", self.cache)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertFalse(self.calls.exists(), "apt-get was called")
        documents = self.documents()
        self.assertEqual(len(documents), 5)
        self.assertTrue(all(document["source"] == "anarchism" for document in documents))
        everything = [part for document in documents for part in document["text"].split("\n\n")]
        self.assertEqual(len(everything), len(set(everything)), "a paragraph comes twice")
        self.assertIn("| anarchism | 1.2-3 | An Anarchist FAQ | GPL-2 | 5 |", (self.out / "SOURCES.md").read_text())
        self.assertTrue(list(self.cache.glob("*.deb")), "a cache of the user's was emptied")

        before = (self.out / "documents.jsonl").stat()
        result = self.run_script("--cache", self.cache)
        self.assertEqual(result.returncode, 0)
        self.assertIn("already there", result.stdout)
        self.assertEqual((self.out / "documents.jsonl").stat().st_mtime_ns, before.st_mtime_ns)

        content = (self.out / "documents.jsonl").read_bytes()
        (self.out / "documents.jsonl").write_bytes(content[:-1])  # no longer what the stamp says
        self.assertNotIn("already there", self.run_script("--cache", self.cache).stdout)
        self.assertEqual((self.out / "documents.jsonl").read_bytes(), content, "not repeatable")

    def test_downloads_are_dropped_unless_kept(self):
        archive = self.anarchism(self.folder)
        self.apt_get(f"cp {archive} .")
        result = self.run_script("--keep")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual([path.name for path in (self.out / "cache").glob("*.deb")], [archive.name])
        (self.out / "corpus.json").unlink()
        self.assertEqual(self.run_script().returncode, 0)
        self.assertFalse((self.out / "cache").exists())
        self.assertEqual(sorted(path.name for path in self.out.iterdir() if path.name != ".lock"),
                         ["SOURCES.md", "corpus.json", "documents.jsonl"])
        self.assertEqual(len(self.calls.read_text().splitlines()), 1)

    def test_unknown_packages_are_looked_for_in_fresh_lists(self):
        archive = self.anarchism(self.folder)
        self.apt_get(f'case "$*" in *update) touch {self.folder}/updated;; *) test -e {self.folder}/updated || '
                     f'{{ echo "E: Unable to locate package anarchism" >&2; exit 100; }}; cp {archive} . ;; esac')
        result = self.run_script()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(self.documents()), 5)

    def test_a_missing_package_is_named(self):
        archive = self.anarchism(self.folder)
        self.apt_get(f'case "$*" in *perl-doc*) echo "E: Unable to locate package perl-doc" >&2; exit 100;; '
                     f"*anarchism) cp {archive} . ;; esac")
        both = ("anarchism", "perl-doc")
        result = self.run_script(packages=both)
        self.assertEqual(result.returncode, 3)
        self.assertIn("cannot fetch 1 of 2 packages:\n  perl-doc: Unable to locate package perl-doc", result.stderr)
        self.assertIn("kiln data prepare --out", result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        self.assertFalse((self.out / "documents.jsonl").exists())

        result = self.run_script("--allow-missing", packages=both)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("perl-doc is left out", result.stdout)
        self.assertIn("Missing: perl-doc", (self.out / "SOURCES.md").read_text())
        self.assertIn("already there", self.run_script("--allow-missing", packages=both).stdout)
        self.assertEqual(self.run_script(packages=both).returncode, 3, "an incomplete corpus passed for a complete one")

    def test_a_broken_archive_is_named(self):
        archive = self.anarchism()
        archive.write_bytes(archive.read_bytes()[:-700])
        result = self.run_script("--cache", self.cache)
        self.assertEqual(result.returncode, 3)
        self.assertIn(f"{archive} is broken", result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        self.assertEqual(list(self.out.glob("documents*")), [])

    def test_a_package_without_prose_is_an_error(self):
        self.package("anarchism", {"usr/share/doc/anarchism/html/page.html": "<p>moved</p>"})
        result = self.run_script("--cache", self.cache)
        self.assertEqual(result.returncode, 3)
        self.assertIn("no prose found in", result.stderr)

    def test_help_teaches(self):
        result = subprocess.run([sys.executable, "-B", SCRIPT, "--help"], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 0)
        for word in ("documents.jsonl", "kiln data prepare", "--allow-missing", "linux-doc-6.1", "apt-get download"):
            self.assertIn(word, result.stdout)


if __name__ == "__main__":
    unittest.main()
