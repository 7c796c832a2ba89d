import { Command } from "commander";
export function crashCommand(): Command {
  return new Command("crash");
}
