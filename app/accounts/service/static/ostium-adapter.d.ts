// For programs that look for types under this name.
export * from "./ostium-adapter.mjs";
