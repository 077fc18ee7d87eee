"""Several processes that serve one address, and the one that looks after them.

**The parent** listens, but accepts nothing. For each *slot* it has a list of listening sockets and
a *worker*, a process forked from it that inherits those. The sockets outlive the worker: what
connects after it has died waits in them for the next one. So does what connects while workers are
replaced: the new one accepts from the sockets of the old one, which is told to leave when the new
one is ready.

The parent has one thread, which waits in a selector for signals (through a pipe), for its workers
and for the next thing that is due. It never runs code of the application but ``ready``, so that
nothing ends it.

**A worker** is told by two ways what to do. SIGTERM: leave, as another one takes over; idle clients
may send one more request. The end of its link, a socket to the parent: stop, as the parent does, or
has died. Through the link it says that it is ready, or why it cannot serve; that it leaves, if
somebody else has told it to; or that the application has stopped the server, which then ends all.
"""
