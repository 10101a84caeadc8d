import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

// The server, under the page's own origin.
const proxy = { "/v1": { target: process.env.TOKENWIRE ?? "http://127.0.0.1:8080", ws: true } };

export default defineConfig({ plugins: [vue()], server: { proxy }, preview: { proxy } });
