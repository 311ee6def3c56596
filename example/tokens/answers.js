// @ts-check
// Recorded, so that the example needs no model. The keys are the questions.
export const answers = new Map([
  [
    'How do I stream tokens?',
    `A stream of tokens is an ordinary HTTP response that takes its time. The server sends each token as soon as it has one, as a small event: a name, some data, a blank line. The page reads while the answer is still being written, so the first word appears at once.

Two things go wrong in practice. The user closes the page, and the model keeps writing for nobody. Or the train enters a tunnel, the connection breaks, and half of an answer that was paid for is lost.

So keep the answer apart from the connection. The model writes into a log of its own, and the page says how far it has read.`,
  ],
  [
    'What happens when I close the tab?',
    `The answer goes on. Nobody can tell a closed tab from a train in a tunnel, so a connection that ends is no reason to throw away what the model has written.

When you open the conversation again, the page finds the id of the running answer there and reads it from its beginning: first what was written meanwhile, in one piece, and then each new token. When the answer has ended, its text is a message of the conversation like any other.

If you want it to end, press Stop. That is a request of its own, and it works from any tab.`,
  ],
  [
    'Does it work with several processes?',
    `Yes, if they share a store. The process that got the question writes the answer; any other can read it, and can stop it. A load balancer may send each request wherever it likes.

The process that writes holds a lease, and renews it while it is at work. If it dies, the lease runs out within seconds, the answer ends as lost, and every page is told. Nothing waits for ever.

A question that is sent twice starts one answer, even if the two requests reach different processes at the same time.`,
  ],
])
