import { expect, test } from "vitest";
import { compareModules } from "./moduledifference";
import { moduleTypes, type Module } from "./modules";

const module = (name: string, text: string, contentType: string = moduleTypes.esm): Module => ({ name, contentType, bytes: new TextEncoder().encode(text) as Uint8Array<ArrayBuffer> });

test("modules differ by their bytes and types, and those that differ come first", () => {
  const before = [module("a", "1"), module("b", "1"), module("gone", "1"), module("kind", "1")];
  const after = [module("kind", "1", moduleTypes.text), module("b", "2"), module("a", "1"), module("new", "")];
  expect(compareModules(before, after).map((c) => [c.name, c.change])).toEqual([["b", "changed"], ["gone", "removed"], ["kind", "changed"], ["new", "added"], ["a", "same"]]);
});
