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
  [
    '怎样流式返回 token？',
    `token 流就是一个普通的 HTTP 响应，只是时间长一些。服务端每得到一个 token，就把它作为一个小事件发出：名称、数据、一个空行。页面边收边读，所以第一个词马上就会出现。

实际中会出两种问题。用户关掉页面，模型却还在为没人的页面生成；或者列车进了隧道，连接断开，已经付费的半个回答就丢了。

所以要把回答和连接分开：模型写入一份自己的日志，页面告诉服务端读到了哪里。`,
  ],
  [
    '关掉标签页会怎样？',
    `回答会继续。没人能分辨标签页是被关掉，还是列车进了隧道；连接断开不是丢弃已生成内容的理由。

再次打开这个对话时，页面在其中找到正在生成的回答的 id，从头读取：先一次收到之前写出的部分，然后是每个新的 token。回答结束后，它的文本就和其他消息一样存在对话里。

想结束它，请点“停止”。这是一个单独的请求，在任何标签页都有效。`,
  ],
  [
    '支持多个进程吗？',
    `支持，只要它们共用一个存储。收到问题的进程写回答，其他进程都可以读取或停止它；负载均衡可以把请求发到任何一个进程。

写回答的进程持有一份租约，工作期间不断续租。如果它挂了，租约几秒后到期，回答以“丢失”结束，每个页面都会得知，不会无限等待。

同一个问题发送两次，只会生成一个回答，即使两个请求同时到达不同的进程。`,
  ],
])

const all = [...answers.keys()]

/** By the language of the page. */
export const questions = { en: all.slice(0, 3), zh: all.slice(3) }
