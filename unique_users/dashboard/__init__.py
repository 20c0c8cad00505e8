"""The live page of unique users: a reader of the topic `counts`, a web server in front of it, and the page itself."""
