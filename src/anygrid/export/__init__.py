"""A surrogate as a file that other programs run: ONNX, `torch.export`, AOTInductor. Each is checked before it is kept."""

from anygrid.export.onnx_graph import export_onnx
from anygrid.export.programs import export_compiled, export_program
from anygrid.export.traceable import Traceable

__all__ = ["Traceable", "export_compiled", "export_onnx", "export_program"]
