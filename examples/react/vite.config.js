import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The server, under the page's own origin.
const proxy = { "/v1": { target: process.env.TOKENWIRE ?? "http://127.0.0.1:8080", ws: true } };

export default defineConfig({ plugins: [react()], server: { proxy }, preview: { proxy } });
