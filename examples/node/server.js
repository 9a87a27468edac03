// A server in another language: it echoes, counts who is there, and pings to find out who is not.
//
//   npm install && node server.js 8000
//   labkit probe ws://127.0.0.1:8000/
import { WebSocketServer } from "ws";

const PING_EVERY = Number(process.env.PING_EVERY ?? 30_000); // milliseconds
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2] ?? process.env.PORT ?? 8000) });

server.on("connection", (socket, request) => {
  console.log(`connected ${request.url}, ${server.clients.size} here`);
  socket.alive = true;
  socket.on("pong", () => (socket.alive = true));
  socket.on("error", (error) => console.log(`error ${error.message}`)); // without it, a protocol error ends the process
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("close", (code) => console.log(`closed ${code}, ${server.clients.size} here`));
});

setInterval(() => {
  for (const socket of server.clients) {
    if (!socket.alive) socket.terminate();
    socket.alive = false;
    socket.ping();
  }
}, PING_EVERY).unref();

process.on("SIGTERM", () => {
  for (const socket of server.clients) socket.close(1001, "the server goes");
  server.close();
});
