// The connection to the server. It comes back by itself, and asks its question again.
//
// A WebSocket and not server-sent events: of those a browser holds six to one server, and the seventh tab hangs.

const FIRST_WAIT = 500, LONGEST_WAIT = 10_000; // milliseconds
const SILENT = 20_000; // the server says something every few seconds: a connection may be dead without an end

/** Calls `on.message` with what the server says, and `on.lost` when it is gone. Returns a function that asks. */
export function connect(on) {
  let socket, question, wait = FIRST_WAIT, heard = 0;

  const ask = (next = question) => {
    question = next;
    if (question && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(question));
  };

  const open = () => {
    const address = new URL("live", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = "";
    address.hash = "";
    socket = new WebSocket(address);
    heard = Date.now();
    socket.addEventListener("message", (event) => {
      heard = Date.now();
      wait = FIRST_WAIT;
      on.message(JSON.parse(event.data));
    });
    socket.addEventListener("close", () => {
      on.lost();
      setTimeout(open, wait);
      wait = Math.min(2 * wait, LONGEST_WAIT);
    });
  };

  open();
  setInterval(() => {
    if (Date.now() - heard > SILENT && socket.readyState === WebSocket.OPEN) socket.close();
  }, 5_000);
  return ask;
}
