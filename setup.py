"Every setting lives in settings.ini; this hands them to setuptools."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=['='])
config.read('settings.ini', encoding='utf-8')
cfg = config['DEFAULT']

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], author=cfg['author'],
    license='MIT', long_description=Path('README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    packages=find_packages(include=['ksr', 'ksr.*']), package_data={'ksr': ['weights/*', 'report/*']},
    python_requires='>=' + cfg['min_python'], install_requires=cfg['requirements'].split(),
    extras_require={extra: cfg[f'{extra}_requirements'].split() for extra in ('docs', 'viewer', 'tensorboard')},
    entry_points=dict(console_scripts=cfg['console_scripts'].split(), nbdev=['ksr=ksr._modidx:d']))
