/** Worker: sets mathematics. Fetched with the first formula. */

import { typeset } from "../math/typeset.ts";
import { answer, type MathQuestion, type MathReply } from "./protocol.ts";

answer<MathQuestion, MathReply>((formulas) => formulas.map(({ tex, display }) => typeset(tex, display)));
