// How the failure rates of two versions differ, in words.
import type { Schemas } from "../../api/client";
import type { Answer } from "../../lib/query";
import { Badge, Loading, Problem, type Tone } from "../../ui/basics";
import { compared, type Words } from "./sentences";
import type { Pair } from "./versions";

const looks: Record<Words["verdict"], [Tone | undefined, string]> = {
  worse: ["bad", "Fails more"], better: ["good", "Fails less"], open: [undefined, "Not clear"], nothing: [undefined, "No data"],
};

export function DifferencePanel(props: { pair: Pair | undefined; answer: Answer<Schemas["Comparison"]>; name: (id: string) => string; rollback: string }) {
  const { pair, answer, name } = props;
  if (!pair) return <section class="panel"><h2>Difference</h2><p>There is one version only. Upload another one, and give it a part of the traffic, to compare them.</p></section>;
  const words = answer.data && compared(answer.data, name(pair.baseline), name(pair.candidate));
  return (
    <section class="panel difference" aria-labelledby="difference">
      <div class="row"><h2 id="difference">Difference of failure rates</h2><span aria-live="polite">{words && <Badge tone={looks[words.verdict][0]}>{looks[words.verdict][1]}</Badge>}</span></div>
      <div class="difference">
        <Problem error={answer.error} what="The two versions could not be compared." older={answer.data !== undefined} retry={answer.reload} />
        {!words && !answer.error && <Loading what="the comparison" />}
        {words && (
          <div>
            <p><strong>{words.headline}</strong></p>
            {words.sentences.length > 0 && <p>{words.sentences.join(" ")}</p>}
          </div>
        )}
        <p class="small quiet">
          The bounds are for one look, though they are drawn anew every few seconds: looking again and again makes a false alarm likely.
          {" "}What stays valid while you watch is <a href={props.rollback}>the evidence of a rollback policy</a>.
        </p>
      </div>
    </section>
  );
}
