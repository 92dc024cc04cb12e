"""The site: `make docs` → _docs/site/index.html, which opens without a server and searches without a network.

The notebooks are shown as they are stored. Below every exported cell stands a table of its docments (parameter, type, default, meaning); names in backticks lead to the cell
that defines them. Everything is read from the files: no module of the package is imported, no cell is run."""
import ast, io, json, re, shutil, subprocess, sys, tokenize
from pathlib import Path

root = Path(__file__).resolve().parent.parent
notebooks = sorted(p for p in (root/'nbs').glob('*.ipynb') if not p.name.startswith(('.', '_')))
guide = ['docs/guide/' + name + '.md' for name in ('reading', 'media', 'trust', 'training', 'comparing', 'contributing')] # in the order to read them
pages = ['README.md', *guide, 'CHANGELOG.md', 'data/README.md', *(f'ksr/weights/{p.name}' for p in sorted((root/'ksr'/'weights').glob('*.md')))]
source = lambda cell: ''.join(cell['source'])
definition = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def module(cells): # that a notebook exports to, or None
    found = re.search(r'^#\|\s*default_exp (\S+)', '\n'.join(map(source, cells)), re.M)
    return f'ksr.{found[1]}' if found else None


def comments(text): # line number → comment at its end
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {t.start[0]: t.string.lstrip('# ').strip() for t in tokens if t.type == tokenize.COMMENT}


def parameters(node, said): # (name, type, default, meaning) of a function's parameters and what it returns
    a = node.args
    named = [*a.posonlyargs, *a.args]
    defaults = dict(zip([x.arg for x in named][::-1], a.defaults[::-1])) | {x.arg: d for x, d in zip(a.kwonlyargs, a.kw_defaults) if d}
    every = [*((x, '') for x in named), *([(a.vararg, '*')] if a.vararg else []), *((x, '') for x in a.kwonlyargs), *([(a.kwarg, '**')] if a.kwarg else [])]
    first = node.body[0].lineno
    one_line = max([x.end_lineno for x, _ in every] + [node.returns.end_lineno if node.returns else 0]) <= node.lineno # its comment says what it returns
    found = [(star + x.arg, x.annotation, defaults.get(x.arg), '' if one_line else said.get(x.lineno, '')) for x, star in every if x.arg != 'self']
    taken = set() if one_line else {x.lineno for x, _ in every}
    closing = next((said[k] for k in range(max(first - 1, node.lineno), node.lineno - 1, -1) if k in said and k not in taken), '')
    return found + ([('→', node.returns, None, closing)] if node.returns or closing else [])


def fields(node, said): # (name, type, default, meaning) of a class: of its `__init__`, else of its annotated fields
    made = next((x for x in node.body if isinstance(x, definition[0]) and x.name == '__init__'), None)
    if made: return [row for row in parameters(made, said) if row[0] != '→']
    return [(x.target.id, x.annotation, x.value, said.get(x.lineno, '')) for x in node.body if isinstance(x, ast.AnnAssign)]


def plain(text): return text.replace('|', '\\|').replace('*', '\\*').replace('_', '\\_').replace('<', '&lt;').replace('$', '\\$')


def in_code(node): return f'`{ast.unparse(node)}`'.replace('|', '\\|') if node else ''


def name_of(node): # a patched method belongs to the class of its `self`
    patched = any(getattr(d.func if isinstance(d, ast.Call) else d, 'id', '') == 'patch' for d in node.decorator_list) # @patch, @patch(as_prop=True)
    return f'{ast.unparse(node.args.args[0].annotation)}.{node.name}' if patched else node.name


def docments(text): # [(name, first line of its docstring, table in Markdown)] of an exported cell's public definitions
    said, found = comments(text), []
    for node in ast.parse(text).body:
        if not isinstance(node, definition) or node.name.startswith('_'): continue
        rows = (fields if isinstance(node, ast.ClassDef) else parameters)(node, said)
        lines = [f'| {in_code(ast.Name(name)) if name != "→" else name} | {in_code(kind)} | {in_code(default)} | {plain(meaning)} |' for name, kind, default, meaning in rows]
        table = '\n'.join(['| | type | default | meaning |', '| --- | --- | --- | --- |', *lines]) if lines else ''
        found.append((name_of(node), plain((ast.get_docstring(node) or '').split('\n')[0]), table))
    return found


def exports(): # full name → (notebook, docstring)
    found = {}
    for path in notebooks:
        cells = json.loads(path.read_text(encoding='utf-8'))['cells']
        for c in cells:
            if c['cell_type'] == 'code' and re.match(r'#\|\s*export', source(c)):
                for name, doc, _ in docments(source(c)): found[f'{module(cells)}.{name}'] = (path.stem, doc)
    return found


def label(full): return re.sub('[A-Z]', lambda m: '-' + m[0].lower(), full) # labels know no capitals; `Look` and `look` are two


def linked(text, names): # Markdown whose names in backticks lead to their definitions; plain words are left alone, they may mean anything
    short = {}
    for full in names: short.setdefault(full.split('.')[-1], []).append(full)

    def link(match):
        name = match[1].removesuffix('()')
        full = name if name in names else short[name][0] if len(short.get(name, [])) == 1 and re.search('[A-Z_]', name) else None
        return f'[`{match[1]}`](#{label(full)})' if full else match[0]

    def line(s): return s if s.startswith(('#', '    ', '```')) else re.sub(r'(?<![\[`])`([\w.]+(?:\(\))?)`(?![\]`])', link, s)
    return '\n'.join(map(line, text.split('\n')))


def below(cell, of): # a Markdown cell with the docments of an exported one, or none
    found = docments(source(cell))
    text = '\n\n'.join(f'({label(f"{of}.{name}")})=\n`{of}.{name}`' + (f': {doc}' if doc else '') + (f'\n\n{table}' if table else '') for name, doc, table in found)
    return [dict(cell_type='markdown', id=cell['id'] + 'd', metadata={}, source=text)] if found else []


def page(path, names): # a notebook for the site
    nb = json.loads(path.read_text(encoding='utf-8'))
    of, shown = module(nb['cells']), []
    for c in nb['cells']:
        text = source(c)
        if re.search(r'^#\|\s*(hide|default_exp)\b', text, re.M): continue
        exported = c['cell_type'] == 'code' and re.match(r'#\|\s*export', text)
        table = below(c, of) if exported else []
        c['source'] = linked(text, names) if c['cell_type'] == 'markdown' else re.sub(r'^#\|.*\n', '', text, flags=re.M)
        for o in c.get('outputs', []):
            if 'text/html' in o.get('data', {}): o['data']['text/html'] = re.sub(r'href="(\w+)\.ipynb', r'href="\1.html', ''.join(o['data']['text/html']))
        shown += [c, *table]
    return json.dumps(nb | dict(cells=shown), ensure_ascii=False)


def tree(title, names): return f'```{{toctree}}\n:caption: {title}\n:maxdepth: 1\n\n' + '\n'.join(names) + '\n```\n'


def write_source(folder):
    "Everything Sphinx reads, in the project's own layout, so that relative links hold"
    names = exports()
    for p in ('nbs', 'data', 'docs/guide', 'ksr/weights', 'figures'): (folder/p).mkdir(parents=True, exist_ok=True)
    for path in notebooks: (folder/'nbs'/path.name).write_text(page(path, names), encoding='utf-8')
    for name in pages: (folder/name).write_text(linked((root/name).read_text(encoding='utf-8'), names), encoding='utf-8')
    for path in (root/'figures').glob('*.png'): shutil.copy(path, folder/'figures')
    shutil.copytree(root/'nbs'/'images', folder/'nbs'/'images')
    rows = [f'| [`{full}`](#{label(full)}) | {doc} |' for full, (_, doc) in sorted(names.items())]
    (folder/'names.md').write_text('# Names\n\nEvery public function and class, with the cell that defines it.\n\n| name | what it is |\n| --- | --- |\n' + '\n'.join(rows), encoding='utf-8')
    numbered = [f'nbs/{p.stem}' for p in notebooks if p.stem[:2].isdigit()]
    reports = [f'nbs/{p.stem}' for p in notebooks if not p.stem[:2].isdigit() and p.stem != 'index']
    told, rest = ([name.removesuffix('.md') for name in pages if (name in guide) == wanted] for wanted in (True, False))
    first = '# KSR-Net\n\nReads number plates from five tiny frames, restores them and says how far each character can be trusted. Begin with [the map](nbs/index.ipynb) or the [README](README.md).\n\n'
    parts = [tree('Start', ['nbs/index', *rest[:1]]), tree('Guide', told), tree('Modules', numbered), tree('Reports', reports), tree('Reference', ['names', *rest[1:]])]
    (folder/'index.md').write_text(first + '\n'.join(parts), encoding='utf-8')


def build(out): # → the site's folder
    "Write the sources, then the site"
    shutil.rmtree(out, ignore_errors=True)
    write_source(out/'source')
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-b', 'html', '-c', root/'docs', '-d', out/'doctrees', out/'source', out/'site']
    done = subprocess.run(command, stdin=subprocess.DEVNULL)
    if done.returncode: sys.exit(done.returncode)
    return out/'site'


if __name__ == '__main__': print('site  ' + str((build(root/'_docs')/'index.html').relative_to(root)))
