#!/usr/bin/env python

from flask import Flask
from flask import request
import json

app = Flask(__name__)

@app.route('/', methods=['POST'])
def echo():
    content = request.get_json()
    print(json.dumps(content, indent=4))
    return ""

if __name__ == "__main__":
    app.run()
