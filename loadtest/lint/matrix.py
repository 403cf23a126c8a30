"""Writes matrix.md from what `upring lint --json` said of each peer: run.sh calls it with its work folder."""
import datetime
import json
import platform
import sys

work = sys.argv[1]
peers = [line.rstrip("\n").split("\t") for line in open(f"{work}/peers")]
documents = {name: json.load(open(f"{work}/{name}.json")) for name, _ in peers}
VERDICTS = ["pass", "differs", "unclear", "fail", "skip"]


def cell(text):
    return text.replace("|", "\\|").replace("<", "&lt;").replace("{", "\\{").replace("*", "\\*")


def code(text):
    return "`" + text.strip('"').replace("`", "'").replace("|", "\\|") + "`"


def grouped(results, verdict):
    """What came back, and from whom."""
    groups = {}
    for name, result in results.items():
        if result["verdict"] == verdict:
            groups.setdefault(result["got"], []).append(name)
    return "<br>".join(f"{cell(got)}: {', '.join(names)}" for got, names in groups.items())


print("# What `upring lint` finds\n")
print(f"Made by `loadtest/lint/run.sh` on {datetime.date.today()}, Linux {platform.release()}, everything on loopback. A server that stands before node")
print("is judged with it: what it lets through is answered there. **fail**: the standard forbids it. **differs**: the standard allows it, or only")
print("advises against it. **unclear**: what the vector is about could not be seen. **skipped**: the server has no such path, or does not do it.\n")
print("| server | version | pass | differs | unclear | fail | skipped |\n|---|---|---|---|---|---|---|")
for name, version in peers:
    totals = documents[name]["totals"]
    print(f"| {name} | {version} | " + " | ".join(str(totals[word]) for word in VERDICTS) + " |")
for name, _ in peers:
    if documents[name]["death"]:
        print(f"\n**{name}** did not survive: {cell(documents[name]['death'])}")

print("\n## Failures\n")
print("Each is what came back where a standard demands otherwise, with the sentence of the standard that it breaks.\n")
for name, _ in peers:
    failures = [result for result in documents[name]["results"] if result["verdict"] == "fail"]
    if failures:
        print(f"### {name}\n")
    for result in failures:
        print(f"- {result['row']} ({result['source']}): {cell(result['title'])} Sent {code(result['sent_shortened'])}, got {cell(result['got'])}: {cell(result['why'])}.")
    if failures:
        print()

print("## Every vector\n")
print("| row | what a server does | sent | pass | differs | **fail** | unclear |\n|---|---|---|---|---|---|---|")
titles = {}
for name, _ in peers:
    for result in documents[name]["results"]:
        titles.setdefault(result["title"], result)
for title, first in titles.items():
    results = {}
    for name, _ in peers:
        results.update({name: result for result in documents[name]["results"] if result["title"] == title})
    sent = next((result["sent_shortened"] for result in results.values() if result["verdict"] != "skip"), "")
    sent = code(sent) if sent else "-"
    columns = [grouped(results, verdict) for verdict in ["pass", "differs", "fail", "unclear"]]
    about = f"{cell(title)} {first['level'].upper()}: {cell(first['source'])} ({first['class']})"
    print(f"| {first['row']} | {about} | {sent} | " + " | ".join(columns) + " |")
