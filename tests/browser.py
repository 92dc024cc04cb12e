"""Debian's Chromium, driven by ChromeDriver over the WebDriver protocol (W3C), with nothing but the standard library."""
import base64, json, shutil, socket, subprocess, tempfile, time, urllib.error, urllib.request

programs = {name: shutil.which(name) for name in ('chromium', 'chromedriver')}
quiet = ('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync')


class Browser:
    "One window without a screen; `with Browser() as b`"
    def __init__(self, load='normal'): self.load = load # none: a page is used before it has loaded

    def __enter__(self):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            self.port = free.getsockname()[1]
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.driver = subprocess.Popen([programs['chromedriver'], f'--port={self.port}'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        options = dict(binary=programs['chromium'], args=[*quiet, f'--user-data-dir={self.profile.name}'])
        wanted = {'browserName': 'chrome', 'pageLoadStrategy': self.load, 'goog:chromeOptions': options, 'goog:loggingPrefs': {'browser': 'ALL'}}
        try:
            self.session = ''
            self.session = '/session/' + self.wait(lambda: self.ask('POST', '/session', capabilities=dict(alwaysMatch=wanted)))['sessionId']
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            if self.session: self.ask('DELETE', '')
        finally:
            self.driver.terminate()
            self.driver.wait(20)
            self.profile.cleanup()

    def wait(self, action, seconds=60):
        "Until the driver listens"
        end = time.monotonic() + seconds
        while True:
            try: return action()
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > end or self.driver.poll() is not None: raise
            time.sleep(.1)

    def ask(self, method, path, **body):
        "One command → its value"
        data = None if method in ('GET', 'DELETE') else json.dumps(body).encode()
        request = urllib.request.Request(f'http://127.0.0.1:{self.port}{self.session}{path}', data, {'Content-Type': 'application/json'}, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer: return json.load(answer)['value']

    def open(self, path): self.ask('POST', '/url', url=path.resolve().as_uri())

    def visit(self, url): self.ask('POST', '/url', url=url)

    def type(self, selector, text):
        "Into the first element of that CSS selector; paths, one a line, into a field for files"
        (element,) = self.ask('POST', '/element', using='css selector', value=selector).values()
        self.ask('POST', f'/element/{element}/value', text=text)

    def press(self, text):
        "The button that says so, as soon as it may be pressed"
        self.until(f"[...document.querySelectorAll('button')].some(b => b.innerText.trim() == '{text}' && !b.disabled && (b.click(), true))")

    def until(self, expression, seconds=120):
        "Its value, as soon as there is one"
        end = time.monotonic() + seconds
        while not (value := self.value(expression)):
            if time.monotonic() > end: raise TimeoutError(f'{expression}: nothing after {seconds} s; the page says {self.value("document.body.innerText")[-2000:]}')
            time.sleep(.2)
        return value

    def size(self, width, height=900): self.ask('POST', '/window/rect', width=width, height=height)

    def value(self, expression): return self.ask('POST', '/execute/sync', script=f'return {expression}', args=[])

    def errors(self): return [entry['message'] for entry in self.ask('POST', '/se/log', type='browser') if entry['level'] in ('SEVERE', 'WARNING')]

    def pdf(self): return base64.b64decode(self.ask('POST', '/print', background=True))

    def screenshot(self): return base64.b64decode(self.ask('GET', '/screenshot'))
