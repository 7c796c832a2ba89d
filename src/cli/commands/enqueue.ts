import { text as readAll } from "node:stream/consumers";
import { isMadeJobEnded, waitForEnd } from "../enqueue/wait-for-end.ts";
import { parseInput } from "../../core/input.ts";
