import { defineJob, implement, type Queue } from "../../src/index.ts";
import { handlers as others } from "./app.fixture.ts";

const [strict] = others.filter(({ job }) => job.type === "test.strict").map(({ job }) => job);

export const handlers = [implement(defineJob("test.nothing"), () => undefined)];

export async function seed(queue: Queue): Promise<void> {
  await queue.enqueue(strict ?? defineJob("test.strict"), { from: "ada" });
}
