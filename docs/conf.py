"""Settings of the site that `make docs` builds: Sphinx; notebooks by MyST-NB as they are stored; equations as MathML. Nothing is run, nothing is fetched."""
import re

from docutils.nodes import SkipNode, math_block
from docutils.utils.math.latex2mathml import tex2mathml

project, author, language = 'KSR-Net', 'KSR-Net engineers', 'en'
extensions = ['myst_nb']
root_doc = 'index'
html_theme = 'furo'
html_title = 'KSR-Net'
html_static_path, html_css_files = ['static'], ['wide.css']
html_copy_source = html_show_sourcelink = html_show_copyright = False
html_math_renderer = 'mathml'

nb_execution_mode = 'off'
nb_ipywidgets_js = {} # else two scripts are fetched from a content network
nb_output_stderr = 'remove'
myst_enable_extensions = ['dollarmath', 'amsmath', 'html_image']
myst_dmath_double_inline = True # $$ … $$ within a paragraph
myst_heading_anchors = 4
suppress_warnings = ['mystnb.unknown_mime_type', 'misc.highlighting_failure', 'myst.header']

spelt = [(r'(\\(?:hat|tilde|bar)\s*(?:\{[^{}]*(?:\{[^{}]*\})?[^{}]*\}|\\[a-zA-Z]+|\w))', r'{\1}'), # so that an index stands beside it, not below
    (r'\\[bB]igg?[lr]?(?![a-zA-Z])', ''), (r'\\textstyle', ''), (r'\\dots(?![a-z])', r'\\ldots'), (r'\\tfrac', r'\\frac'), (r'\\frac\s*(\d)\s*(\w)', r'\\frac{\1}{\2}')] # what the converter does not know, in words it knows


def mathml(self, node):
    "An equation as browsers draw it themselves; one that cannot be converted ends the build"
    text, block = node.astext(), isinstance(node, math_block)
    for old, new in spelt: text = re.sub(old, new, text)
    found = tex2mathml(text, as_block=block)
    self.body.append(f'<div class="math">{found}</div>' if block else found)
    raise SkipNode


def setup(app): app.add_html_math_renderer('mathml', (mathml, None), (mathml, None))
