// The kernel as the place that computes.
import { unpack, type Answer, type Model, type Source } from "./protocol";

interface KernelConnection {
  statusChanged?: {
    connect(hear: (sender: unknown, status: string) => void): void;
    disconnect(hear: (sender: unknown, status: string) => void): void;
  };
}

const ENDS = new Set(["restarting", "autorestarting", "terminating", "dead"]);
const HEARD = new Set(["trouble", "notice", "working"]);
const GONE =
  "The kernel that computes this figure is gone; its last picture stays. Run the cell again.";

export class KernelSource implements Source {
  readonly silence =
    "No answer from the kernel yet: it is busy with another cell, or gone. The last picture stays.";

  constructor(private readonly model: Model) {}

  hello(): void {
    this.model.send({ kind: "hello" });
  }

  listen(hear: (answer: Answer) => void): () => void {
    const { model } = this;
    const custom = (content: any, buffers: DataView[]) => {
      if (content?.kind === "picture")
        hear({ ...content, tables: unpack(content.tables, buffers) });
      else if (HEARD.has(content?.kind)) hear(content);
    };
    const gone = () => hear({ kind: "gone", text: GONE });
    const status = (_: unknown, now: string) => ENDS.has(now) && gone();
    // JupyterLab tells a widget that its kernel is restarted, but not that it died: ask the
    // connection too.
    const kernel = (model.widget_manager as { kernel?: KernelConnection } | undefined)?.kernel;
    model.on("msg:custom", custom);
    model.on("comm_live_update", gone);
    kernel?.statusChanged?.connect(status);
    return () => {
      model.off("msg:custom", custom);
      model.off("comm_live_update", gone);
      kernel?.statusChanged?.disconnect(status);
    };
  }
}
